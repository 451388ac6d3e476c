"""The bytes of a blob in order, over as many connections and sources as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from entrepot.registry.download.sources import Pace, Sources
from entrepot.registry.errors import Unavailable, UpstreamError, Why
from entrepot.registry.upstream.protocol import RemoteBlob


def resumed(
    sources: Sources,
    start: int,
    opened: Callable[[RemoteBlob], None] = lambda _: None,
    bound: Callable[[], int | None] = lambda: None,
) -> Iterator[bytes]:
    """Yield a blob from *start* to its end.

    *bound* returns where to stop (exclusive; None: at its end). A source that breaks off, or sends
    less than it was asked for (RFC 9110, 15.3.7), is asked again, or the next one is, by range, for
    what is missing. *opened* is called with each connection's answer. Raises: UpstreamError when
    the patience of *sources* is over.
    """
    pace = Pace(sources.limits)
    while True:
        source, fetch = sources.choose()
        came = False
        pace.begin(sources.now())
        try:
            with fetch(start, bound()) as remote:
                opened(remote)
                for chunk in _brisk(remote, wanted(remote, start), pace, sources.now):
                    start += len(chunk)
                    came = True
                    sources.progressed(source, len(chunk))
                    yield chunk
            if not came or start >= _end(remote, bound()):
                return
        except UpstreamError as error:
            sources.failed(source, error, start=start)


def once(sources: Sources, start: int, stop: int) -> Iterator[bytes]:
    """Yield *start* to *stop* from one connection, as far as it comes. Raises: UpstreamError.

    For a part that is fetched beside another connection: what it lacks is fetched by the latter, so
    a refusal here says nothing of the source.
    """
    source, fetch = sources.first()
    with fetch(start, stop) as remote:
        for chunk in until(wanted(remote, start), stop - start):
            sources.progressed(source, len(chunk))
            yield chunk


def wanted(remote: RemoteBlob, start: int) -> Iterator[bytes]:
    """Yield a body from *start* on; an upstream that ignores ranges sends what is not wanted."""
    unwanted = start - remote.start
    for chunk in remote.chunks():
        if unwanted >= len(chunk):
            unwanted -= len(chunk)
            continue
        yield chunk[unwanted:] if unwanted else chunk
        unwanted = 0


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


def passed_on(body: AbstractContextManager[RemoteBlob], start: int, stop: int) -> Iterator[bytes]:
    """Yield a range of a blob, as its upstream gives it."""
    with body as remote:
        yield from until(wanted(remote, start), stop - start)


def _brisk(
    remote: RemoteBlob, chunks: Iterator[bytes], pace: Pace, now: Callable[[], float]
) -> Iterator[bytes]:
    """Pass *chunks* on until they come too slowly, and not all have come.

    Raises: Unavailable (TIMEOUT).
    """
    left = None if remote.stop is None else remote.stop - remote.start
    for chunk in chunks:
        yield chunk
        left = None if left is None else left - len(chunk)
        if pace.is_too_slow(now(), len(chunk)) and left != 0:
            raise Unavailable("the upstream", "it sends too slowly", Why.TIMEOUT)


def _end(remote: RemoteBlob, bound: int | None) -> int:
    """Return where a blob ends; 0 where nobody says: it ended where its body did."""
    return min((each for each in (remote.size, bound) if each is not None), default=0)
