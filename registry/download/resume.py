"""Read the bytes of a blob in order, with as many connections and sources as needed."""

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

    *bound* returns the exclusive end at which to stop, or None for the end of the blob. If a
    response is cut off or has fewer bytes than were requested (RFC 9110, 15.3.7), the function
    requests the missing range from the same source again or from the next source. The function
    calls *opened* with the response of each connection. Raises: UpstreamError when *sources* ends
    the download.
    """
    pace = Pace(sources.limits)
    while True:
        source, fetch = sources.choose()
        has_bytes = False
        pace.begin(sources.now())
        try:
            with fetch(start, bound()) as remote:
                opened(remote)
                for chunk in _check_pace(remote, skip_to(remote, start), pace, sources.now):
                    start += len(chunk)
                    has_bytes = True
                    sources.progressed(source, len(chunk))
                    yield chunk
            if not has_bytes or start >= _end(remote, bound()):
                return
        except UpstreamError as error:
            sources.failed(source, error, start=start)


def fetch_part(sources: Sources, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes *start* to *stop* (exclusive) that arrive over one connection.

    The download has other connections at the same time. If this connection fails or is refused, the
    caller fetches the missing bytes over another connection. Therefore this function does not
    report the failure to *sources*. Raises: UpstreamError.
    """
    source, fetch = sources.choose_now()
    with fetch(start, stop) as remote:
        for chunk in limited(skip_to(remote, start), stop - start):
            sources.progressed(source, len(chunk))
            yield chunk


def skip_to(remote: RemoteBlob, start: int) -> Iterator[bytes]:
    """Yield the bytes of a body from the offset *start* to its end.

    An upstream that ignores ranges sends the whole body, and this function skips the bytes before
    *start*.
    """
    to_skip = start - remote.start
    for chunk in remote.chunks():
        if to_skip >= len(chunk):
            to_skip -= len(chunk)
            continue
        yield chunk[to_skip:] if to_skip else chunk
        to_skip = 0


def limited(chunks: Iterator[bytes], length: int | None) -> Iterator[bytes]:
    """Yield at most *length* bytes, or all bytes if *length* is None."""
    for chunk in chunks:
        if length is None:
            yield chunk
            continue
        if length:
            yield chunk[:length]
        length -= len(chunk)
        # A body of exactly *length* bytes is read to its end, so that the connection can be reused.
        if length < 0:
            return


def passed_through(
    body: AbstractContextManager[RemoteBlob], start: int, stop: int
) -> Iterator[bytes]:
    """Yield a range of a blob as the upstream sends it, without verification."""
    with body as remote:
        yield from limited(skip_to(remote, start), stop - start)


def _check_pace(
    remote: RemoteBlob, chunks: Iterator[bytes], pace: Pace, now: Callable[[], float]
) -> Iterator[bytes]:
    """Yield *chunks*; raise an error if they arrive too slowly, except after the last chunk.

    Raises: Unavailable (TIMEOUT).
    """
    left = None if remote.stop is None else remote.stop - remote.start
    for chunk in chunks:
        yield chunk
        left = None if left is None else left - len(chunk)
        if pace.is_too_slow(now(), len(chunk)) and left != 0:
            raise Unavailable("the upstream", "the blob arrives too slowly", Why.TIMEOUT)


def _end(remote: RemoteBlob, bound: int | None) -> int:
    """Return the smaller of the blob's size and *bound*, in bytes.

    Return 0 if neither is known; the blob then ends at the end of the response's body.
    """
    return min((each for each in (remote.size, bound) if each is not None), default=0)
