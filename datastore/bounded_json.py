"""Reads JSON that a stranger wrote, with bounds on what it may become in memory.

4 MB of `{},{},` are 100 MB of dictionaries: the number of values is counted before they are made.
"""

from __future__ import annotations

import json
from typing import NoReturn

MOST_VALUES = 200_000
"""Commas and opening brackets: 10,000 descriptors with annotations have half as many."""


def loads(data: bytes, most: int = MOST_VALUES) -> object:
    """Read a document of at most *most* values, in UTF-8.

    Raises: ValueError for whatever is wrong with it: syntax, depth, numbers of thousands of digits,
    infinities and NaN, which JSON does not have.
    """
    if sum(data.count(each) for each in (b",", b"{", b"[")) > most:
        raise ValueError(f"more than {most} values")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
