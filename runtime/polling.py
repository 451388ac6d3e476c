"""Wait for a condition in another process by checking it at intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def poll(look: Callable[[], _T | None], within: float, every: float) -> _T | None:
    """Call *look* every *every* seconds until it returns a value other than None; return the value.

    Return None if *look* returns no value within *within* seconds (math.inf means no limit). The
    first call takes place at once, and the last call after *within* seconds. Raises: every
    exception that *look* raises.
    """
    deadline = time.monotonic() + within
    while (found := look()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(every, left))
    return found
