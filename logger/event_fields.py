"""Read and validate numbers in the fields of an event, which another process has written."""

from __future__ import annotations

import math

from entrepot.datastore.accesslog import Event
from entrepot.logger.metrics import bucket


def counts(bounds: tuple[float, ...], value: float) -> list[int]:
    """Return the counts of a histogram's buckets for the single observation *value*."""
    found = [0] * (len(bounds) + 1)
    found[bucket(bounds, value)] = 1
    return found


def number(event: Event, name: str) -> float:
    """Return a field that is a number of at least 0. Raises: ValueError."""
    found = finite(event, name)
    if found < 0:
        raise ValueError(f"out of range: {name}")
    return found


def finite(event: Event, name: str) -> float:
    """Return a field that is a finite number. Raises: ValueError."""
    value = event.fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"no number: {name}")  # noqa: TRY004 - one error for all faults
    try:
        found = float(value)
    except OverflowError as error:
        raise ValueError(f"out of range: {name}") from error
    if not math.isfinite(found):
        raise ValueError(f"out of range: {name}")
    return found
