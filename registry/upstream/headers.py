"""Parse the response headers of upstreams; return None for an invalid or impossible value.

Headers are untrusted: the length of a number is checked before the number is converted. The cost of
each function is linear in the length of its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.refs import Digest

LARGEST_SIZE = 2**53
"""Lengths above this number of bytes (8 PiB) are ignored.

So sums of lengths fit into SQLite's integers.
"""

_DIGITS = 16
_MOST_PULLS = 10**12
_LONGEST_DATE = 64
_LONGEST_WAIT_S = 366 * 86400.0
_RANGE = re.compile(r"bytes[ \t]+([0-9]{1,16})-([0-9]{1,16})/(?:([0-9]{1,16})|\*)")
# PERF: each expression is matched at one position and never backtracks.
_BLANKS = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z*]+")
_EQUALS = re.compile(r"\s*=\s*")
_TEXT = re.compile(r'"([^"]*)"|([^",;\s]*)')


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A `ContentRange` is bytes `start` to `stop` (exclusive) of `size`, which is None for `*`."""

    start: int
    stop: int
    size: int | None


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """Return the parsed Content-Range (RFC 9110, 14.4)."""
    match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None
    first, last, size = (int(digits) if digits else None for digits in match.groups())
    most = LARGEST_SIZE if size is None else size
    if first is None or last is None or not first <= last < most <= LARGEST_SIZE:
        return None
    return ContentRange(first, last + 1, size)


def unsatisfied(headers: Mapping[str, str]) -> int | None:
    """Return the size of the whole object in bytes from a 416 response (RFC 9110, 15.5.17)."""
    unit, _, size = headers.get("Content-Range", "").strip().partition("*/")
    return whole_number(size, LARGEST_SIZE) if unit.strip() == "bytes" else None


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length in bytes."""
    return whole_number(headers.get("Content-Length", ""), LARGEST_SIZE)


def whole_number(text: str, most: int) -> int | None:
    """Return a decimal number from 0 to *most* (inclusive), or None for any other text."""
    text = text.strip()
    if len(text) > _DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number <= most else None


def media_type(headers: Mapping[str, str]) -> str:
    """Return the Content-Type in lower case without its parameters, or an empty text."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def content_digest(headers: Mapping[str, str]) -> Digest | None:
    """Return the digest in the header Docker-Content-Digest."""
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", "").strip())
    except InvalidDigest:
        return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return Retry-After (a number or a date, RFC 9110, 10.2.3) in seconds from *now* (UTC epoch).

    The returned time is at most 366 days.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        seconds = whole_number(text, int(_LONGEST_WAIT_S))
        return _LONGEST_WAIT_S if seconds is None else float(seconds)
    if len(text) > _LONGEST_DATE:
        return None
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), _LONGEST_WAIT_S)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def next_page(headers: Mapping[str, str], url: str) -> str | None:
    """Return the URL of the next page in a Link header (RFC 8288), or None if there is none.

    Only path and query of the link are used, with the host of *url*. Raises: ValueError if the link
    is not an HTTP URL.
    """
    for target, parameters in _links(headers.get("Link", "")):
        if "next" in parameters.get("rel", "").lower().split():
            here, there = urlsplit(url), urlsplit(urljoin(url, target.strip()))
            if there.scheme not in {"http", "https"} or not target.isprintable():
                raise ValueError("the link to the upstream's next page is not an HTTP URL")
            # The link `http:1/x` has no host; below, its path `1/x` would follow the host without a
            # slash.
            if not there.path.startswith("/"):
                raise ValueError("the URL of the upstream's next page has no host")
            return f"{here.scheme}://{here.netloc}{there.path}?{there.query}"
    return None


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the target and the parameters of each link in a Link header, in order (RFC 8288, 3).

    Old versions of Quay omit the angle brackets; such a header is a single link.
    """
    if "<" not in header and ";" in header:
        position = header.index(";")
        yield header[:position], _parameters(header, position)[0]
    position = 0
    while (start := header.find("<", position)) >= 0:
        stop = header.find(">", start)
        if stop < 0:
            return
        parameters, position = _parameters(header, stop + 1)
        yield header[start + 1 : stop], parameters


def _parameters(header: str, position: int) -> tuple[dict[str, str], int]:
    """Parse `; name=text` parameters from *position*; return them, and the position after them."""
    found: dict[str, str] = {}
    while True:
        position = _end(_BLANKS, header, position)
        name = _NAME.match(header, _end(_BLANKS, header, position + 1))
        if not header.startswith(";", position) or name is None:
            return found, position
        equals = _EQUALS.match(header, name.end())
        text = _TEXT.match(header, equals.end()) if equals else None
        found.setdefault(name[0].lower(), (text[1] or text[2] or "") if text else "")
        position = text.end() if text else name.end()


def _end(expression: re.Pattern[str], header: str, position: int) -> int:
    """Return the end of a match of *expression* at *position*; without a match, *position*."""
    match = expression.match(header, position)
    return match.end() if match else position


def budget(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Return Docker Hub's rate limit (remaining pulls, limit), or None if it was not sent."""
    remaining, limit = (
        whole_number(headers.get(name, "").partition(";")[0], _MOST_PULLS)
        for name in ("RateLimit-Remaining", "RateLimit-Limit")
    )
    if remaining is None or limit is None:
        return None
    return remaining, limit
