"""Send requests to the mirrors of an upstream in their configured order, then to the upstream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from entrepot.datastore.refs import Digest, Reference
from entrepot.registry.errors import UpstreamError
from entrepot.registry.upstream.protocol import (
    Fetch,
    HeadResult,
    RemoteBlob,
    RemoteManifest,
    Upstream,
)
from entrepot.registry.upstream.wire import deadline

T = TypeVar("T")
_FIRST_S = 10.0
"""After all mirrors together have taken this many seconds, the request is sent to the upstream.

Clients wait longer than this, so they can still receive the upstream's response.
"""
_REST_S = 3.0
"""After the first failure of a mirror, the other mirrors together may take this many seconds."""
_LEAST_S = 0.5
"""If fewer than this many seconds are left, no further mirror is tried."""


class Mirrored:
    """A `Mirrored` is an upstream with mirrors, which are tried in their order.

    If a mirror fails or rejects a request, the request is sent to the next mirror. The upstream
    itself (*origin*) is tried last, and only its error is raised. All mirrors together have a time
    limit, after which the origin is tried; `blob` has no such limit. A download uses `blob_sources`
    and changes to the next source when a body is cut off.
    """

    def __init__(self, mirrors: Sequence[Upstream], origin: Upstream) -> None:
        self._mirrors = tuple(mirrors)
        self._origin = origin

    @property
    def is_healthy(self) -> bool:
        """Return True if a mirror or the origin responded to its last request."""
        return any(each.is_healthy for each in (*self._mirrors, self._origin))

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Return the descriptor of a manifest."""
        return self._first_in_time(lambda each: each.head(name, reference))

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest."""
        return self._first_in_time(lambda each: each.manifest(name, reference))

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob in bytes."""
        return self._first_in_time(lambda each: each.blob_size(name, digest))

    @contextmanager
    def blob(
        self, name: str, digest: Digest, start: int = 0, stop: int | None = None
    ) -> Iterator[RemoteBlob]:
        """Open a blob."""
        with ExitStack() as open_ones:
            yield self._first(
                lambda each: open_ones.enter_context(each.blob(name, digest, start, stop))
            )

    def blob_sources(self, name: str, digest: Digest, size: int | None = None) -> tuple[Fetch, ...]:
        """Return functions that open a blob, one for each source: the mirrors, then the origin."""
        sources = (*self._mirrors, self._origin)
        return tuple(fetch for each in sources for fetch in each.blob_sources(name, digest, size))

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List tags."""
        return self._first_in_time(lambda each: each.tags(name, after, limit))

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch the index of a manifest's referrers."""
        return self._first_in_time(lambda each: each.referrers(name, digest, artifact_type))

    def _first(self, send: Callable[[Upstream], T]) -> T:
        """Return the result of the first source that responds; the mirrors have no time limit."""
        for mirror in self._mirrors:
            with suppress(UpstreamError):
                return send(mirror)
        return send(self._origin)

    def _first_in_time(self, send: Callable[[Upstream], T]) -> T:
        """Return the result of the first source that responds; the mirrors share a time limit."""
        until = time.monotonic() + _FIRST_S
        for mirror in self._mirrors:
            if time.monotonic() > until - _LEAST_S:
                break
            with suppress(UpstreamError), deadline(until):
                return send(mirror)
            until = min(until, time.monotonic() + _REST_S)
        return send(self._origin)
