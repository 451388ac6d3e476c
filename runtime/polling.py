"""Wait for a condition of another process, which can only be polled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def poll(look: Callable[[], _T | None], within: float, every: float) -> _T | None:
    """Call *look* every *every* s until *look* returns a result, and return that result.

    Return None if *look* returns no result within *within* s (math.inf: no limit). *look* is called
    at once, and a last time when the time is over. Raises: every exception that *look* raises.
    """
    deadline = time.monotonic() + within
    while (found := look()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(every, left))
    return found
