"""Reads what upstreams write into headers; what can't be read is None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from datastore.errors import InvalidDigest
from datastore.refs import Digest

_RANGE = re.compile(r"bytes\s+([0-9]+)-([0-9]+)/(?:([0-9]+)|\*)")
_LINK = re.compile(r'<([^>]*)>\s*((?:;\s*[a-zA-Z*]+\s*=\s*(?:"[^"]*"|[^",;\s]*)\s*)*)')
_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """From `start` to `stop` (exclusive) of `size` bytes; None where it says `*`."""

    start: int
    stop: int
    size: int | None


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """Read Content-Range: RFC 9110, 14.4."""
    match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None or int(match[1]) > int(match[2]):
        return None
    return ContentRange(int(match[1]), int(match[2]) + 1, int(match[3]) if match[3] else None)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Read Content-Length."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


def media_type(headers: Mapping[str, str]) -> str:
    """Read Content-Type without its parameters; empty where there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def content_digest(headers: Mapping[str, str]) -> Digest | None:
    """Read Docker-Content-Digest."""
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", "").strip())
    except InvalidDigest:
        return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3), in s from *now* (UTC epoch)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def next_page(headers: Mapping[str, str], url: str) -> str | None:
    """Return the URL of the next page, always on *url*'s own host: RFC 8288.

    Raises: ValueError when the upstream points to another host.
    """
    for target, parameters in _LINK.findall(headers.get("Link", "")):
        if _NEXT.search(parameters):
            here, there = urlsplit(url), urlsplit(urljoin(url, target))
            if there.hostname != here.hostname:
                raise ValueError("its next page is on another host")
            return f"{here.scheme}://{here.netloc}{there.path}?{there.query}"
    return None


def budget(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Read what Docker Hub leaves of its rate: pulls that remain, and of how many."""
    remaining, limit = (
        headers.get(name, "").partition(";")[0].strip()
        for name in ("RateLimit-Remaining", "RateLimit-Limit")
    )
    if not (remaining.isdecimal() and limit.isdecimal()):
        return None
    return int(remaining), int(limit)
