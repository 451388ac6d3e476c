"""Reads JSON that a stranger wrote, with bounds on what it may become in memory.

4 MB of `{},{},` are 100 MB of dictionaries: the number of values is counted before they are made.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_VALUES = 200_000
"""Commas and opening brackets: 10,000 descriptors with annotations have half as many."""


def loads(data: bytes, most: int = MOST_VALUES, *, unique: bool = False) -> object:
    """Read a document of at most *most* values, in UTF-8; *unique*: no object has a key twice.

    Raises: ValueError for whatever is wrong with it: syntax, depth, numbers of thousands of digits,
    infinities and NaN, which JSON does not have, and numbers that would become one.
    """
    if sum(data.count(each) for each in (b",", b"{", b"[")) > most:
        raise ValueError(f"more than {most} values")
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique if unique else None,
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: each reader would take another of its values."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
