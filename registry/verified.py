"""Bytes from an upstream that are verified before the last of them leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from datastore.errors import DigestMismatch
from datastore.refs import Digest
from registry.errors import Unavailable, Why
from registry.remote import RemoteBlob

log = logging.getLogger(__name__)


class Fetch(Protocol):
    """Opens a blob at its upstream, from `start` to `stop` (bytes, exclusive; None: its end)."""

    def __call__(
        self, start: int, stop: int | None = None, /
    ) -> AbstractContextManager[RemoteBlob]:
        """Ask for it."""
        ...


_TRIES = 3
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 3.0
_TELLS_WHEN = (Why.RESTING, Why.LIMITED)


def resumed(
    fetch: Fetch,
    start: int,
    opened: Callable[[RemoteBlob], None] = lambda _: None,
    bound: Callable[[], int | None] = lambda: None,
) -> Iterator[bytes]:
    """Yield a blob from *start* to its end, over as many connections as that takes.

    *bound* tells where to stop (exclusive; None: at its end). An upstream that breaks off, or sends
    less than it was asked for (RFC 9110, 15.3.7), is asked again, by range, for what is missing;
    three times in a row without a byte of progress is the end. *opened* is told of each
    connection's answer. Raises: UpstreamError.
    """
    failures = 0
    while True:
        progress = False
        try:
            with fetch(start, bound()) as remote:
                opened(remote)
                for chunk in _from(remote, start):
                    start += len(chunk)
                    progress = True
                    yield chunk
            if not progress or start >= _end(remote, bound()):
                return
            failures = 0
        except Unavailable as error:
            failures = 1 if progress else failures + 1
            if failures >= _TRIES or not _worth_another(error, started=start > 0):
                raise
            log.info("download resumed", extra={"upstream": error.upstream, "start": start})
            time.sleep(_pause(error, failures))


def _end(remote: RemoteBlob, bound: int | None) -> int:
    """Return where a blob ends; 0 where nobody says: it ended where its body did."""
    return min((each for each in (remote.size, bound) if each is not None), default=0)


def _worth_another(error: Unavailable, *, started: bool) -> bool:
    """Ask again only in the middle of a body: what fails at once is told at once."""
    return started and (error.why not in _TELLS_WHEN or error.retry_after is not None)


def _pause(error: Unavailable, failures: int) -> float:
    """Return how long to wait, in s: as long as the upstream says, within reason."""
    told = (error.retry_after or 0.0) if error.why in _TELLS_WHEN else 0.0
    return min(max(_PAUSE_S * (failures - 1), told), _LONGEST_PAUSE_S)


def _from(remote: RemoteBlob, start: int) -> Iterator[bytes]:
    """Yield a body from *start* on; an upstream that ignores ranges sends what is not wanted."""
    unwanted = start - remote.start
    for chunk in remote.chunks():
        if unwanted >= len(chunk):
            unwanted -= len(chunk)
            continue
        yield chunk[unwanted:] if unwanted else chunk
        unwanted = 0


def verified(
    chunks: Iterator[bytes], digest: Digest, prefix: Iterable[bytes] = ()
) -> Iterator[bytes]:
    """Pass *chunks* on, one byte late, so that the last is held until *digest* is proven.

    *prefix* is what went out before them. Raises: DigestMismatch, in place of the last byte.
    """
    hasher = digest.hasher()
    for chunk in prefix:
        hasher.update(chunk)
    held = b""
    for chunk in chunks:
        hasher.update(chunk)
        yield held + chunk[:-1]
        held = chunk[-1:]
    actual = Digest(digest.algorithm, hasher.hexdigest())
    if actual != digest:
        raise DigestMismatch(digest, actual)
    yield held


def alone(fetch: Fetch, digest: Digest, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield a blob that nothing is written of; a range of it cannot be proven here."""
    rest = resumed(fetch, start)
    return until(rest if start else verified(rest, digest), stop and stop - start)


def passed_on(body: AbstractContextManager[RemoteBlob], start: int, stop: int) -> Iterator[bytes]:
    """Yield a range of a blob, as its upstream gives it."""
    with body as remote:
        yield from until(_from(remote, start), stop - start)


def until(chunks: Iterator[bytes], length: int | None) -> Iterator[bytes]:
    """Yield at most *length* bytes; None: all."""
    for chunk in chunks:
        if length is None:
            yield chunk
            continue
        if length:
            yield chunk[:length]
        length -= len(chunk)
        if length < 0:  # what ends by itself is read to its end: its connection is used again
            return
