"""Format sizes and durations for operators."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def size(count: int) -> str:
    """Return *count* bytes as a text: `231 MiB`, or `2.3 MiB` if the number is below ten."""
    if abs(count) < 1024:  # noqa: PLR2004 - the size of a KiB
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in _UNITS:  # noqa: B007 - the last unit of the loop is used below
        value /= 1024
        if abs(value) < 1024:  # noqa: PLR2004
            break
    return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004


def span(seconds: float) -> str:
    """Return a duration as a text with its two largest units, such as `31d` or `1h5m`.

    Return `0s` if the duration is negative.
    """
    rest = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in _SPANS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2]) or "0s"
