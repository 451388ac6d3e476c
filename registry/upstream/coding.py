"""Decode the content codings of a response within bounds (RFC 9110, 8.4).

Every request asks for the coding `identity`, but some registries and reverse proxies compress the
body nevertheless. A digest is computed over the decoded content, so the body must be decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

_PIECE = 256 * 1024
_MOST = 3
# The decoded bytes may be this many times the received bytes. zlib reaches a ratio of at most 1032;
# a larger ratio means that a body was compressed several times to exhaust the receiver.
_LARGEST_RATIO = 1100
_FREE = 1024 * 1024  # This many decoded bytes are allowed without a check of the ratio.
# If the expected decoded length is unknown, this smaller ratio applies. The layers of images do not
# reach this ratio.
_USUAL_RATIO = 20
# This many decoded bytes are allowed without a check of the smaller ratio.
_UNUSUAL = 64 * 1024 * 1024

_Decode = Callable[[Iterator[bytes]], Iterator[bytes]]


class Undecodable(ValueError):  # noqa: N818 - the name states the fact
    """The body is not in the coding that its header names, or it decodes to too many bytes."""


def codings(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the codings in the order of decoding: the coding that was applied last comes first.

    Unknown codings are ignored. For example, if an upload to S3 names the coding `aws-chunked`, S3
    later names it too, although S3 sends the decoded content. If the body really has an unknown
    coding, the check of its digest or format fails. If the header names more than `_MOST` known
    codings, none is decoded.
    """
    named = [each.strip().lower() for each in headers.get("Content-Encoding", "").split(",")]
    known = tuple(each for each in reversed(named) if each in _DECODERS)
    return known if len(known) <= _MOST else ()


def decoded(
    pieces: Iterator[bytes], applied: tuple[str, ...], size: int | None = None
) -> Iterator[bytes]:
    """Yield the decoded body in pieces of at most 256 KiB.

    *size* is the expected decoded length in bytes, None if unknown. Raises: Undecodable if the
    decoded body is longer than *size*, or if the ratio of decoded to received bytes is too large.
    """
    received = 0

    def counted() -> Iterator[bytes]:
        nonlocal received
        for piece in pieces:
            received += len(piece)
            yield piece

    body: Iterator[bytes] = counted()
    for each in applied:
        body = _DECODERS[each](body)
    yielded = 0
    for piece in body:
        yielded += len(piece)
        if yielded > _largest(received, size):
            raise Undecodable("the upstream's compressed body decodes to too many bytes")
        yield piece


def _largest(received: int, size: int | None) -> int:
    """Return the largest permitted length of the decoded form of *received* bytes."""
    possible = max(received * _LARGEST_RATIO, _FREE)
    return min(possible, max(received * _USUAL_RATIO, _UNUSUAL) if size is None else size)


def _gunzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode gzip, which may have several members (RFC 1952, 2.2)."""
    return _inflated(pieces, 16 + zlib.MAX_WBITS)


def _undeflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode deflate in zlib's format (RFC 9110, 8.4.1.2) or raw, as some servers send it."""
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
        raise Undecodable("the upstream's compressed body ends too early")


def _step(engine: zlib._Decompress, piece: bytes) -> bytes:
    try:
        return engine.decompress(piece, _PIECE)
    except zlib.error as error:
        raise Undecodable(
            "the upstream's body is not in the coding that its header names"
        ) from error


_DECODERS: Mapping[str, _Decode] = {
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
    "deflate": _undeflated,
}
