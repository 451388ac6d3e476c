"""`readable_units` formats sizes and durations for operators."""

from __future__ import annotations

import pytest

from entrepot.cleaner import readable_units


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (231 * 1024**2, "231 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**5, "5000 PiB"),
    ],
)
def test_a_size_is_given_in_its_largest_binary_unit(count: int, expected: str) -> None:
    """A size is given in its largest binary unit, with one decimal if the number is below ten."""
    assert expected == readable_units.size(count)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0s"),
        (0.9, "0s"),
        (3.2, "3s"),
        (60, "1m"),
        (3900, "1h5m"),
        (31 * 86400, "31d"),
        (31 * 86400 + 300, "31d"),
        (86400 + 7200 + 60, "1d2h"),
    ],
)
def test_a_duration_is_given_in_its_two_largest_units(seconds: float, expected: str) -> None:
    """A duration is given in its two largest units, without fractions of a second."""
    assert expected == readable_units.span(seconds)
