"""Define the interfaces of this package: upstream registries, their blobs and the event log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from entrepot.datastore.refs import Digest, Reference


class EventLog(Protocol):
    """An `EventLog` writes the events that `datastore.accesslog.Event` lists.

    Any thread may call an event log. An event log must not raise an exception.
    """

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Write one event with its fields."""
        ...


def discard_event(_event: str, /, **_fields: str | float) -> None:
    """Discard the event."""


class RemoteBlob(Protocol):
    """A `RemoteBlob` is the open body of a blob or of a part; offsets and sizes are in bytes."""

    @property
    def start(self) -> int:
        """Return the offset in the blob at which the body starts (0 if the range was ignored)."""
        ...

    @property
    def size(self) -> int | None:
        """Return the size of the whole blob, or None if the upstream did not send it."""
        ...

    @property
    def stop(self) -> int | None:
        """Return the offset in the blob at which the body ends (exclusive), or None if unknown."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the response's body as it is received, in pieces of at most 256 KiB.

        Raises: Unavailable if the body ends before the length that the upstream announced.
        """
        ...


class Fetch(Protocol):
    """A `Fetch` opens a blob at one source, from `start` to `stop` (exclusive; None: the end)."""

    def __call__(
        self, start: int, stop: int | None = None, /
    ) -> AbstractContextManager[RemoteBlob]:
        """Send the request for the blob. Raises: UpstreamError."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A `RemoteManifest` is a manifest; `digest` is the digest of the received bytes `body`."""

    digest: Digest
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HeadResult:
    """A `HeadResult` is the descriptor of a manifest; `size` is in bytes.

    If the upstream sent no usable value, `digest` or `size` is None, or `media_type` is empty.

    `manifest` is set if HEAD gave no usable response and the client read the manifest with GET.
    """

    digest: Digest | None
    size: int | None
    media_type: str
    manifest: RemoteManifest | None = None


class Upstream(Protocol):
    """An `Upstream` is one upstream registry; its methods may run in any thread.

    *name* is the repository's name at the upstream. A method raises only Absent, Denied,
    Unavailable or Overloaded.
    """

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        ...

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Return the descriptor of a manifest.

        HEAD is tried before GET, because Docker Hub does not count a HEAD as a pull.
        """
        ...

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest. If *reference* is a digest, the body is verified against that digest.

        Raises: Unavailable (NONSENSE) if the digest differs.
        """
        ...

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if the upstream does not send the size.

        Raises: Absent if the repository *name* has no such blob.
        """
        ...

    def blob(
        self, name: str, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AbstractContextManager[RemoteBlob]:
        """Open a blob from *start* to *stop* (exclusive); the caller verifies the digest.

        A Range header is sent only if *start* or *stop* is given. If the upstream ignores the
        Range, the body starts at 0.
        """
        ...

    def blob_sources(self, name: str, digest: Digest, size: int | None = None) -> tuple[Fetch, ...]:
        """Return functions that open a blob, one for each source: the mirrors, then the upstream.

        *size* is the blob's size in bytes from a manifest. It limits the length of a decoded body.
        """
        ...

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List at most *limit* tags after the tag *after*; without a limit, read every page."""
        ...

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch the index of a manifest's referrers.

        Raises: Absent if the upstream has no referrers API.
        """
        ...
