"""Turn unexpected errors in requests to an upstream into `Unavailable`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from entrepot.datastore.refs import Digest, Reference
from entrepot.registry.errors import RegistryError, Unavailable, Why
from entrepot.registry.upstream.protocol import (
    Fetch,
    HeadResult,
    RemoteBlob,
    RemoteManifest,
    Upstream,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class Guarded:
    """The methods of a `Guarded` upstream raise only `RegistryError`, such as Unavailable.

    Any other error is logged once, with its traceback, and raised as Unavailable (NONSENSE).
    """

    def __init__(self, upstream: Upstream, host: str) -> None:
        self._upstream = upstream
        self._host = host

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        return self._upstream.is_healthy

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Return the descriptor of a manifest."""
        return self._call(lambda: self._upstream.head(name, reference))

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest."""
        return self._call(lambda: self._upstream.manifest(name, reference))

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob in bytes."""
        return self._call(lambda: self._upstream.blob_size(name, digest))

    @contextmanager
    def blob(
        self, name: str, digest: Digest, start: int = 0, stop: int | None = None
    ) -> Iterator[RemoteBlob]:
        """Open a blob."""
        with self._opened(partial(self._upstream.blob, name, digest), start, stop) as body:
            yield body

    def blob_sources(self, name: str, digest: Digest, size: int | None = None) -> tuple[Fetch, ...]:
        """Return functions that open a blob, one for each source."""
        fetches = self._upstream.blob_sources(name, digest, size)
        return tuple(partial(self._opened, fetch) for fetch in fetches)

    @contextmanager
    def _opened(self, fetch: Fetch, start: int, stop: int | None = None) -> Iterator[RemoteBlob]:
        with ExitStack() as opened:
            body = fetch(start, stop)
            yield _GuardedBlob(self._call(lambda: opened.enter_context(body)), self._call)

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List tags."""
        return self._call(lambda: self._upstream.tags(name, after, limit))

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch the index of a manifest's referrers."""
        return self._call(lambda: self._upstream.referrers(name, digest, artifact_type))

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except RegistryError:
            raise
        except Exception as error:
            log.exception("unexpected error with an upstream", extra={"upstream": self._host})
            message = (
                "the request to the upstream failed; the log of the registry states the reason"
            )
            raise Unavailable(self._host, message, Why.NONSENSE) from error


class _GuardedBlob:
    """A `_GuardedBlob` is the open body of a blob; *call* turns a read error into Unavailable."""

    def __init__(self, body: RemoteBlob, call: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._body = body
        self._call = call

    @property
    def start(self) -> int:
        """Return the offset in the blob at which the body starts, in bytes."""
        return self._body.start

    @property
    def size(self) -> int | None:
        """Return the size of the whole blob in bytes, or None if unknown."""
        return self._body.size

    @property
    def stop(self) -> int | None:
        """Return the offset in the blob at which the body ends (exclusive), or None if unknown."""
        return self._body.stop

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces of the response's body as they are received."""
        chunks = self._body.chunks()
        while chunk := self._call(lambda: next(chunks, b"")):
            yield chunk
