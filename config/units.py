"""Read and write sizes, time spans and percentages: `10G`, `1h2m3s`, `20%`.

The library humanfriendly can't parse `1h2m3s`, and does not distinguish a binary `10G` from a
decimal `10GB`. So this module splits such a value into parts that humanfriendly can parse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

import humanfriendly

from entrepot.config.errors import Unreadable

_SIZE = re.compile(r"(\d{1,16}(?:\.\d{1,6})?)\s*(?:([KMGTP])(i?B?)|B)?", re.IGNORECASE | re.ASCII)
_PIECE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|[smhdw])\s*", re.ASCII)
_SPAN = re.compile(rf"(?:{_PIECE.pattern})+", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_PERCENTAGE = re.compile(r"(\d{1,3})\s*%?", re.ASCII)

# This is the largest accepted size in bytes. No disk is that large, and the sum of a thousand such
# sizes still fits into the 63 bits of an SQLite integer.
_LARGEST: Final = 2**53
_MIB: Final = 2**20
_LONGEST: Final = 100 * 365 * 86400.0

_PREFIXES = (("P", 2**50), ("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))
_MILLISECONDS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


def size(given: object) -> int:
    """Read a size and return it in bytes.

    `10G` and `10GiB` are binary (powers of 1024), and `10GB` is decimal (powers of 1000).

    Raises: Unreadable.
    """
    match = _SIZE.fullmatch(_text(given))
    if match is None:
        raise Unreadable("not a size", "try 10G")
    number, prefix, suffix = match.groups(default="")
    unit = "B" if not prefix else f"{prefix}B" if suffix.upper() == "B" else f"{prefix}iB"
    found = int(humanfriendly.parse_size(f"{number} {unit}"))
    if found > _LARGEST:
        raise Unreadable("larger than any disk", "try 10G")
    return found


def size_between(low: int, high: int) -> Callable[[object], int]:
    """Return a function that reads sizes from *low* to *high* bytes, both inclusive."""

    def read(given: object) -> int:
        found = size(given)
        if not low <= found <= high:
            remedy = f"try {show_size(min(2 * low, high))}"
            raise Unreadable(f"not from {show_size(low)} to {show_size(high)}", remedy)
        return found

    return read


def edge_cache_size(given: object) -> int:
    """Read the size of HAProxy's cache, a whole number of MiB from 1M to 1G; return it in bytes.

    Raises: Unreadable.
    """
    found = size(given)
    if not _MIB <= found <= 1024 * _MIB or found % _MIB:
        raise Unreadable("not a whole number of MiB from 1M to 1G", "try 8M")
    return found


def show_size(value: int) -> str:
    """Return *value* bytes as text that `size` parses to the same number."""
    for prefix, factor in _PREFIXES:
        if value and value % factor == 0:
            return f"{value // factor}{prefix}"
    return str(value)


def span(given: object) -> float:
    """Read a time span (`1h2m3s`, `30d`, `500ms` or a number of seconds); return it in seconds.

    Raises: Unreadable.
    """
    text = _text(given)
    if _SECONDS.fullmatch(text):
        found = float(text)
    elif _SPAN.fullmatch(text):
        pieces = _PIECE.findall(text)
        found = math.fsum(humanfriendly.parse_timespan(f"{n} {unit}") for n, unit in pieces)
    else:
        raise Unreadable("not a span", "try 1h30m, 30d or 60s")
    if found > _LONGEST:
        raise Unreadable("longer than a hundred years", "try 30d")
    return found


def longer_span(given: object) -> float:
    """Read a time span that must be longer than 0 and return it in seconds. Raises: Unreadable."""
    found = span(given)
    if not found:
        raise Unreadable("a span of 0 is too short here", "try 30s")
    return found


def show_span(seconds: float) -> str:
    """Return a time span, rounded to milliseconds, as text that `span` can read."""
    left, pieces = round(seconds * 1000), []
    for unit, length in _MILLISECONDS:
        count, left = divmod(left, length)
        pieces += [f"{count}{unit}"] if count else []
    return "".join(pieces) or "0s"


def percentage(given: object) -> int:
    """Read a whole percentage from 0 to 100: `20%` or `20`. Raises: Unreadable."""
    match = _PERCENTAGE.fullmatch(_text(given))
    if match is None or int(match[1]) > 100:  # noqa: PLR2004 - the definition of per cent
        raise Unreadable("not a percentage from 0 to 100", "try 20%")
    return int(match[1])


def _text(given: object) -> str:
    if isinstance(given, float) and given.is_integer():
        return str(int(given))
    return "" if isinstance(given, bool) else str(given).strip()
