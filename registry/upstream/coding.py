"""Undoes the content codings of an upstream's answer, within bounds: RFC 9110, 8.4.

Every request asks for `identity`, and some registries and the proxies before them compress all the
same. A digest is of the decoded content.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

_PIECE = 256 * 1024
_MOST = 3
# zlib's own limit is 1032: more is a bomb in several layers
_LARGEST_RATIO = 1100
_FREE = 1024 * 1024  # bytes that are decoded before the ratio counts
# where nothing names the length of what is decoded: an image's layer is below this ratio
_USUAL_RATIO = 20
_UNUSUAL = 64 * 1024 * 1024  # bytes that may be above it

_Decode = Callable[[Iterator[bytes]], Iterator[bytes]]


class Undecodable(ValueError):  # noqa: N818 - the class says the fact
    """A body that is not in the coding that its header names, or that decodes to far more."""


def codings(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the codings to undo, the last one applied first.

    Others are left as they are, and so the digest or the format refuses the body: S3 keeps
    `aws-chunked`, which an upload had, beside content that is not in it. Too many are not undone.
    """
    named = [each.strip().lower() for each in headers.get("Content-Encoding", "").split(",")]
    known = tuple(each for each in reversed(named) if each in _DECODERS)
    return known if len(known) <= _MOST else ()


def decoded(
    pieces: Iterator[bytes], applied: tuple[str, ...], size: int | None = None
) -> Iterator[bytes]:
    """Yield a body without its codings, in pieces of at most 256 KiB.

    *size* is what it decodes to, in bytes, None where that is not known. Raises: Undecodable when
    it is more, or without a size far more than it can be.
    """
    came = 0

    def counted() -> Iterator[bytes]:
        nonlocal came
        for piece in pieces:
            came += len(piece)
            yield piece

    body: Iterator[bytes] = counted()
    for each in applied:
        body = _DECODERS[each](body)
    gone = 0
    for piece in body:
        gone += len(piece)
        if gone > _largest(came, size):
            raise Undecodable("it decodes to far more than it is")
        yield piece


def _largest(came: int, size: int | None) -> int:
    """Return how many bytes may be decoded of *came* bytes."""
    possible = max(came * _LARGEST_RATIO, _FREE)
    return min(possible, max(came * _USUAL_RATIO, _UNUSUAL) if size is None else size)


def _gunzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Undo gzip, of several members too: RFC 1952, 2.2."""
    return _inflated(pieces, 16 + zlib.MAX_WBITS)


def _undeflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Undo deflate: in zlib's format (RFC 9110, 8.4.1.2), or without it, as some servers send."""
    head = b""
    while len(head) < 2 and (piece := next(pieces, b"")):  # noqa: PLR2004 - zlib's header
        head += piece
    is_zlib = len(head) > 1 and head[0] & 15 == zlib.DEFLATED and not (head[0] << 8 | head[1]) % 31

    def all_of_it() -> Iterator[bytes]:
        if head:
            yield head
        yield from pieces

    return _inflated(all_of_it(), zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)


def _inflated(pieces: Iterator[bytes], window: int) -> Iterator[bytes]:
    engine, has_begun = zlib.decompressobj(window), False
    for piece in pieces:
        left, out = piece, b""
        while left or (len(out) == _PIECE and not engine.eof):
            if engine.eof:
                engine = zlib.decompressobj(window)
            has_begun = True
            out = _step(engine, left)
            if out:
                yield out
            left = engine.unused_data if engine.eof else engine.unconsumed_tail
    if has_begun and not engine.eof:
        raise Undecodable("its compressed body ends too early")


def _step(engine: zlib._Decompress, piece: bytes) -> bytes:
    try:
        return engine.decompress(piece, _PIECE)
    except zlib.error as error:
        raise Undecodable("its body is not in the coding that it names") from error


_DECODERS: Mapping[str, _Decode] = {
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
    "deflate": _undeflated,
}
