"""Evaluate conditional requests, ranges (RFC 9110, 13 and 14) and ranges of uploads.

The ETag of a blob or manifest is the quoted digest. The content of a digest never changes, so equal
ETags mean equal bytes.

Lazy-pulling snapshotters request many small ranges, and podman resumes a pull with a range. With a
wrong response to a Range header, these pulls would fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import falcon

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import MalformedRequest, RangeUnsatisfiable

# The unit of a range is case-insensitive, and no blank is allowed around "=" (RFC 9110, 14.1).
_UNIT = "bytes="
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Python refuses to parse numbers with thousands of digits. A position with more digits than this is
# past the end of every blob, so its exact value does not matter.
_MOST_DIGITS = 18
_PAST_ANY_END = 10**_MOST_DIGITS
# RFC 9110, 17.15: many or overlapping ranges may be an attack, so the client gets the whole blob.
_MOST = 16


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """A `ByteRange` is the bytes from `start` (inclusive) to `stop` (exclusive), at least one."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Return the number of bytes of the range."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the Content-Range value for this range of a body of *size* bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str | None, size: int) -> list[ByteRange] | None:
    """Parse a Range header for a body of *size* bytes; return the ranges in the requested order.

    Return None if there is no Range header or the header must be ignored; the caller then sends the
    whole body. A header with overlapping ranges is ignored.

    Raises: RangeUnsatisfiable if every range starts past the end, or if a range ends before it
    starts. RFC 9110, 14.2, allows a server to ignore or reject a range that ends before it starts;
    this registry rejects such a range, as other registries do.
    """
    if header is None:
        return None
    specs = _specs(header)
    if specs is None:
        return None
    if any(_is_backwards(spec) for spec in specs):
        raise RangeUnsatisfiable(size)
    ranges = [_resolved(first, last, size) for first, last in specs]
    satisfiable = [each for each in ranges if each is not None]
    if not satisfiable:
        if size == 0 and any(first is None and last for first, last in specs):
            return None  # A suffix range of an empty body is the whole body.
        raise RangeUnsatisfiable(size)
    return None if _overlap(satisfiable) else satisfiable


def unsatisfied_range(size: int) -> str:
    """Return the Content-Range value of a 416 response for a body of *size* bytes."""
    return f"bytes */{size}"


_Spec = tuple[int | None, int | None]


def _specs(header: str) -> list[_Spec] | None:
    """Return the pairs of first and last position in a Range header, or None if it is malformed."""
    if header[: len(_UNIT)].lower() != _UNIT:
        return None
    # Empty list elements in a Range header are ignored (RFC 9110, 5.6.1).
    texts = [text for each in header[len(_UNIT) :].split(",") if (text := each.strip(" \t"))]
    if not 0 < len(texts) <= _MOST:
        return None
    specs: list[_Spec] = []
    for text in texts:
        spec = _spec(text)
        if spec is None:
            return None
        specs.append(spec)
    return specs


def _spec(text: str) -> _Spec | None:
    match = _SPEC.fullmatch(text)
    if match is None:
        return None
    first, last = (_position(digits) if digits else None for digits in match.groups())
    return None if first is None and last is None else (first, last)


def _position(digits: str) -> int:
    """Parse a position of a range; return `_PAST_ANY_END` if it has too many digits."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MOST_DIGITS else _PAST_ANY_END


def _is_backwards(spec: _Spec) -> bool:
    first, last = spec
    return first is not None and last is not None and last < first


def _resolved(first: int | None, last: int | None, size: int) -> ByteRange | None:
    """Limit a pair of positions to *size* bytes; return None if the range then contains no byte."""
    if first is None:
        start, stop = max(size - (last or 0), 0), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    return ByteRange(start, stop) if start < stop else None


def _overlap(ranges: list[ByteRange]) -> bool:
    return any(before.stop > after.start for before, after in pairwise(sorted(ranges)))


# A bare digest is not a valid entity tag, but some clients send a bare digest and docker
# distribution accepts it.
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s",]+)')


def etag(digest: Digest) -> str:
    """Return the entity tag of a blob or manifest."""
    return f'"{digest}"'


def none_match(header: str | None, digest: Digest) -> bool:
    """Evaluate If-None-Match: return True to send the content, False for a 304.

    The comparison of If-None-Match is weak (RFC 9110, 13.1.2). The value `*` of If-None-Match
    matches any content.
    """
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return str(digest) not in {quoted or bare for quoted, bare in _ENTITY_TAG.findall(header)}


def may_range(if_range: str | None, digest: Digest) -> bool:
    """Evaluate If-Range; return True if a range may be sent, False for the whole content.

    The comparison of If-Range is strong (RFC 9110, 13.1.5). A date in If-Range never matches,
    because the registry sends no Last-Modified.
    """
    return if_range is None or if_range.strip() in {etag(digest), str(digest)}


def not_modified(resp: falcon.Response) -> None:
    """Set status 304 and remove the header that describes a body (RFC 9110, 15.4.5)."""
    resp.status = falcon.HTTP_304
    resp.delete_header("Content-Type")


# The Content-Range of an uploaded chunk (OCI distribution-spec 1.1, end-5 and end-13) has no unit
# and no total length, unlike the header of RFC 9110. Some clients nevertheless send the form of RFC
# 9110 with a chunk. The pattern accepts numbers of up to 19 digits.
_UPLOAD_RANGE = re.compile(
    r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", re.ASCII
)


def parse_upload_range(header: str | None) -> ByteRange | None:
    """Parse the Content-Range of a chunk of an upload. Raises: MalformedRequest."""
    if not header:
        return None
    match = _UPLOAD_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise MalformedRequest(f"malformed Content-Range of a chunk: {header[:64]!r}")
    return ByteRange(int(match[1]), int(match[2]) + 1)


def received_range(offset: int) -> str:
    """Return the Range value for *offset* received bytes.

    If no byte was received, return 0-0, as Docker expects.
    """
    return f"0-{max(offset - 1, 0)}"
