"""Parse untrusted JSON with a limit on the memory of the result.

Python's parser would turn 4 MB of JSON such as `[{},{},{},...]` into 100 MB of dictionaries.
Therefore the number of values is counted before the JSON is parsed.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_VALUES = 200_000
"""A document can have at most this many commas and opening brackets.

The number of these characters limits the number of values. A manifest with 10,000 descriptors,
none of which has annotations, has less than half this number.
"""

_STEP = 64 * 1024


def loads(data: bytes, max_values: int = MOST_VALUES, *, unique: bool = False) -> object:
    """Parse a UTF-8 document of at most *max_values* values; with *unique*, refuse repeated keys.

    Raises: ValueError for any defect: wrong syntax, deep nesting, a number with thousands of
    digits, a number that is too large for a float, and the names `Infinity` and `NaN`, which are
    not JSON.
    """
    if _has_more(data, max_values):
        raise ValueError(f"more than {max_values} values")
    try:
        return (_UNIQUE if unique else _PLAIN).decode(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _has_more(data: bytes, most: int) -> bool:
    """Return whether *data* has more than *most* values.

    PERF: *data* is counted in steps of 64 KiB, until the count exceeds *most*. Counting 4 MB of
    brackets at once would hold Python's global interpreter lock for 10 ms or more.
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
    """Return the object; raise ValueError for a repeated key.

    Some parsers use the first value of a repeated key, and others use the last.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")


# PERF: json.loads would create a new decoder at each call, because these functions are not its
# defaults.
_PLAIN = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_UNIQUE = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
