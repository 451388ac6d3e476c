"""Wait for a condition in another process by checking it at intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def poll(look: Callable[[], _T | None], within: float, every: float) -> _T | None:
    """Call *look* every *every* s until it returns another value than None, and return that value.

    Return None if this does not happen within *within* s (math.inf: no limit). The first call is at
    once, and the last call is at the end of this time. Raises: every exception that *look* raises.
    """
    deadline = time.monotonic() + within
    while (found := look()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(every, left))
    return found
