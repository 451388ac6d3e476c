"""Bounds how long all requests of a thread wait together, whoever makes them below."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=math.inf)
_LEAST_S = 0.001  # a socket's time-out of 0 would not block


@contextmanager
def deadline(until: float) -> Iterator[None]:
    """Have this thread's requests end at *until*, in s of `time.monotonic`, or before."""
    token = _until.set(min(until, _until.get()))
    try:
        yield
    finally:
        _until.reset(token)


def left() -> float:
    """Return how many s are left; none, or less, where the deadline is past."""
    return _until.get() - time.monotonic()


def bounded(span: float) -> float:
    """Return for how long [s] a socket may wait that waits for *span* without a deadline."""
    return max(min(span, left()), _LEAST_S)
