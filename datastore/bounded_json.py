"""Read JSON of unknown origin with bounds on the memory that it may take.

JSON of 4 MB such as `{},{},` becomes 100 MB of dictionaries, so values are counted before they are
parsed.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_VALUES = 200_000
"""A document may have this many commas and brackets; a manifest with 10,000 descriptors has half as
many.
"""

_STEP = 64 * 1024


def loads(data: bytes, max_values: int = MOST_VALUES, *, unique: bool = False) -> object:
    """Parse a UTF-8 document of at most *max_values* values; with *unique*, refuse repeated keys.

    Raises: ValueError for any defect: syntax, depth, numbers with thousands of digits, infinities
    and NaN (which JSON does not have), and numbers that overflow to infinity.
    """
    if _has_more(data, max_values):
        raise ValueError(f"more than {max_values} values")
    try:
        return (_UNIQUE if unique else _PLAIN).decode(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _has_more(data: bytes, most: int) -> bool:
    """Return whether *data* has more than *most* values.

    PERF: the count ends with the step that exceeds the limit, because to count 4 MB of brackets
    would hold the interpreter lock for 10 ms or more.
    """
    found = 0
    for start in range(0, len(data), _STEP):
        found += sum(data.count(each, start, start + _STEP) for each in (b",", b"{", b"["))
        if found > most:
            return True
    return False


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is out of range for a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key, because parsers differ in which of its values they use."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")


# PERF: json.loads makes a new decoder for each call with such functions.
_PLAIN = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_UNIQUE = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
