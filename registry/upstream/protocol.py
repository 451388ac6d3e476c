"""The Upstream protocol: another registry, seen through the distribution API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from entrepot.datastore.refs import Digest, Reference


class EventLog(Protocol):
    """Takes an event and its fields; it is called by any thread and must not raise."""

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Note one event."""
        ...


def silent(_event: str, /, **_fields: str | float) -> None:
    """Note nothing."""


class RemoteBlob(Protocol):
    """The open body of a blob, from `start` on (bytes; 0 where a range was ignored).

    `size` is of the whole blob, None where the upstream does not say.
    """

    @property
    def start(self) -> int:
        """Where the body begins in the blob."""
        ...

    @property
    def size(self) -> int | None:
        """How long the whole blob is."""
        ...

    @property
    def stop(self) -> int | None:
        """Where the body ends in the blob (exclusive); None where nobody says."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes in, in pieces of at most 256 KiB.

        Raises: Unavailable when the upstream breaks off before the length that it announced.
        """
        ...


class Fetch(Protocol):
    """Opens a blob at a source, from `start` to `stop` (bytes, exclusive; None: its end)."""

    def __call__(
        self, start: int, stop: int | None = None, /
    ) -> AbstractContextManager[RemoteBlob]:
        """Ask for it. Raises: UpstreamError."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest byte for byte as received; `digest` was computed from `body`."""

    digest: Digest
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HeadResult:
    """A manifest's descriptor: `digest` is None where the upstream omits it, so is `size` [bytes].

    `manifest` is there where HEAD decided nothing, and the manifest itself was read.
    """

    digest: Digest | None
    size: int | None
    media_type: str
    manifest: RemoteManifest | None = None


class Upstream(Protocol):
    """One registry, under the name that its operator gave it; its methods may run in any thread.

    *name* is the repository's name there. Raises, each verb: Absent, Denied, Unavailable.
    """

    @property
    def is_well(self) -> bool:
        """Whether what it was asked last, by any worker, was answered."""
        ...

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Ask for a manifest's descriptor, with HEAD first: it costs no pull at Docker Hub."""
        ...

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest; one asked for by digest is verified (else Unavailable, NONSENSE)."""
        ...

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Ask whether this name may see a blob, and for its size in bytes."""
        ...

    def blob(
        self, name: str, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AbstractContextManager[RemoteBlob]:
        """Open a blob from *start* to *stop* (exclusive); the caller verifies what it reads.

        Only a *start* or a *stop* sends a Range. An upstream that ignores it answers from 0.
        """
        ...

    def blob_sources(self, name: str, digest: Digest, size: int | None = None) -> tuple[Fetch, ...]:
        """Return how to open a blob at each mirror, in their order, and last at the registry.

        *size*, in bytes, is what a manifest names: it bounds what is decoded.
        """
        ...

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List tags behind *after*, at most *limit*; without a limit, every page of them."""
        ...

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch the index of a manifest's referrers; Absent where it has no such API."""
        ...
