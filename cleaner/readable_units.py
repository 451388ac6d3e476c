"""Sizes and spans as a person reads them, in the reasons that the plan gives."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def size(count: int) -> str:
    """Return *count* bytes as `231 MiB`, with one decimal below ten."""
    if abs(count) < 1024:  # noqa: PLR2004 - the size of a KiB
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in _UNITS:  # noqa: B007 - the unit at which the loop ends is the answer
        value /= 1024
        if abs(value) < 1024:  # noqa: PLR2004
            break
    return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: `31d`, `1h5m`; never below zero."""
    rest = max(int(seconds), 0)
    said: list[str] = []
    for unit, length in _SPANS:
        count, rest = divmod(rest, length)
        if count or said:
            said.append(f"{count}{unit}" if count else "")
    return "".join(said[:2]) or "0s"
