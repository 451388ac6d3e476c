"""Asks an upstream's mirrors first, in their order, and the upstream itself last."""

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
# What mirrors may take of a client's patience, in s: the first of them, all others after its
# failure; with less than the last number left none is asked.
_FIRST_S = 10.0
_REST_S = 3.0
_LEAST_S = 0.5


class Mirrored:
    """An upstream with mirrors: whatever one of them refuses, the next is asked.

    The last word is the origin's: its error is the answer. For all but blobs the mirrors together
    have a bounded time, and the origin its own after that. A download takes `blob_sources`, and
    changes to the next of them when a body breaks.
    """

    def __init__(self, mirrors: Sequence[Upstream], origin: Upstream) -> None:
        self._mirrors = tuple(mirrors)
        self._origin = origin

    @property
    def is_well(self) -> bool:
        """Whether one of them answered what it was asked last."""
        return any(each.is_well for each in (*self._mirrors, self._origin))

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Ask for a manifest's descriptor."""
        return self._soon(lambda each: each.head(name, reference))

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest."""
        return self._soon(lambda each: each.manifest(name, reference))

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Ask whether this name may see a blob, and for its size."""
        return self._soon(lambda each: each.blob_size(name, digest))

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
        """Return how to open a blob at each mirror, and last at the origin."""
        each = (*self._mirrors, self._origin)
        return tuple(fetch for one in each for fetch in one.blob_sources(name, digest, size))

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List tags."""
        return self._soon(lambda each: each.tags(name, after, limit))

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch the index of a manifest's referrers."""
        return self._soon(lambda each: each.referrers(name, digest, artifact_type))

    def _first(self, ask: Callable[[Upstream], T]) -> T:
        for mirror in self._mirrors:
            with suppress(UpstreamError):
                return ask(mirror)
        return ask(self._origin)

    def _soon(self, ask: Callable[[Upstream], T]) -> T:
        """Ask the mirrors for little more than `_REST_S` after the first failure of one of them."""
        until = time.monotonic() + _FIRST_S
        for mirror in self._mirrors:
            if time.monotonic() > until - _LEAST_S:
                break
            with suppress(UpstreamError), deadline(until):
                return ask(mirror)
            until = min(until, time.monotonic() + _REST_S)
        return ask(self._origin)
