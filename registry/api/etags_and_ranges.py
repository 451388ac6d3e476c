"""The Range header of RFC 9110, section 14: which bytes of a blob a client asks for.

Lazy-pulling snapshotters ask for many small ranges, and podman resumes with one: what is read
wrongly here ends a pull.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import falcon

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import MalformedRequest, RangeUnsatisfiable

# RFC 9110, 14.1: the unit's name is case-insensitive; no blank is allowed around "=".
_UNIT = "bytes="
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Python refuses to read numbers of thousands of digits, and no blob is as long as this.
_MOST_DIGITS = 18
_PAST_ANY_END = 10**_MOST_DIGITS
# RFC 9110, 17.15: many or overlapping ranges are an attack; such a client gets the whole.
_MOST = 16


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes from `start` (inclusive) to `stop` (exclusive); never empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Write the Content-Range of this part of *size* bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str | None, size: int) -> list[ByteRange] | None:
    """Read a Range header against *size* bytes: the ranges in the order asked for.

    None: there is no header or it is one to ignore, and the answer is the whole. Raises:
    RangeUnsatisfiable when every range starts past the end, or one ends before it starts: RFC 9110,
    14.2, leaves it to the server to ignore or reject such a header, and other registries reject it.
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
            return None  # "the last n bytes" of nothing is all of it
        raise RangeUnsatisfiable(size)
    return None if _overlap(satisfiable) else satisfiable


def unsatisfied_range(size: int) -> str:
    """Write the Content-Range of a 416: how much there is."""
    return f"bytes */{size}"


_Spec = tuple[int | None, int | None]


def _specs(header: str) -> list[_Spec] | None:
    """Split a header into pairs of first and last position; None when it is malformed."""
    if header[: len(_UNIT)].lower() != _UNIT:
        return None
    # empty elements of a list mean nothing (RFC 9110, 5.6.1)
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
    """Read a position of any number of digits; one past the end of any blob is as good as any."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MOST_DIGITS else _PAST_ANY_END


def _is_backwards(spec: _Spec) -> bool:
    first, last = spec
    return first is not None and last is not None and last < first


def _resolved(first: int | None, last: int | None, size: int) -> ByteRange | None:
    """Bring a pair within *size*; None when nothing of it is there."""
    if first is None:
        start, stop = max(size - (last or 0), 0), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    return ByteRange(start, stop) if start < stop else None


def _overlap(ranges: list[ByteRange]) -> bool:
    return any(before.stop > after.start for before, after in pairwise(sorted(ranges)))


# A bare digest is no entity tag, but some clients send one and docker distribution takes it.
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s",]+)')


def etag(digest: Digest) -> str:
    """Write the entity tag of a blob or manifest."""
    return f'"{digest}"'


def none_match(header: str | None, digest: Digest) -> bool:
    """Tell whether If-None-Match lets the whole be sent; False means 304.

    The comparison is the weak one (RFC 9110, 13.1.2), and `*` names whatever there is.
    """
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return str(digest) not in {quoted or bare for quoted, bare in _ENTITY_TAG.findall(header)}


def may_range(if_range: str | None, digest: Digest) -> bool:
    """Tell whether If-Range lets a part be sent; False means the whole.

    The comparison is the strong one (RFC 9110, 13.1.5); a date never matches, for none is sent.
    """
    return if_range is None or if_range.strip() in {etag(digest), str(digest)}


def not_modified(resp: falcon.Response) -> None:
    """Answer 304: the client has it, and nothing describes a body (RFC 9110, 15.4.5)."""
    resp.status = falcon.HTTP_304
    resp.delete_header("Content-Type")


# Some clients write RFC 9110's form; more digits than any length has are no number.
_UPLOAD_RANGE = re.compile(
    r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", re.ASCII
)


def parse_upload_range(header: str | None) -> ByteRange | None:
    """Read where a chunk belongs. Raises: MalformedRequest."""
    if not header:
        return None
    match = _UPLOAD_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise MalformedRequest(f"not a range of a chunk: {header[:64]!r}")
    return ByteRange(int(match[1]), int(match[2]) + 1)


def received_range(offset: int) -> str:
    """Write the Range of what has come in; of nothing it is 0-0, which Docker can read."""
    return f"0-{max(offset - 1, 0)}"
