"""Test how sizes, times and percentages are read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config import units
from entrepot.config.errors import Unreadable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512B", 512),
        ("10K", 10 * 2**10),
        ("10M", 10 * 2**20),
        ("10G", 10 * 2**30),
        ("2T", 2 * 2**40),
        ("10g", 10 * 2**30),
        ("10GB", 10 * 10**9),
        ("10gb", 10 * 10**9),
        ("10GiB", 10 * 2**30),
        ("10Gi", 10 * 2**30),
        ("1.5G", 3 * 2**29),
        ("1.5GB", 1_500_000_000),
        (" 10 G ", 10 * 2**30),
        ("200M", 200 * 2**20),
    ],
)
def test_a_size_is_read_in_bytes(text: str, expected: int) -> None:
    """A size is read in bytes: `10G`, `10GiB` and `10Gi` are binary, and `10GB` is decimal."""
    assert expected == units.size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10X",
        "G",
        "-1G",
        "1e9",
        "10 bananas",
        "10iB",
        "1,5G",
        "ten",
        "10G 5M",
        "\u0661G",
        "0x10",
    ],
)
def test_an_invalid_size_is_an_error(text: str) -> None:
    """The error about an invalid size shows a valid size as the remedy."""
    with pytest.raises(Unreadable) as caught:
        units.size(text)

    assert (caught.value.message, caught.value.remedy) == ("not a size", "try 10G")


@pytest.mark.parametrize("given", ["0", "1", "1.5M", "2G", "8MB"])
def test_the_size_of_haproxys_cache_is_a_whole_number_of_mib(given: str) -> None:
    """The size of HAProxy's cache must be a whole number of MiB, because HAProxy counts in MiB."""
    assert units.edge_cache_size("1G") == 1024**3
    with pytest.raises(Unreadable) as caught:
        units.edge_cache_size(given)

    assert caught.value.remedy == "try 8M"


def test_a_size_larger_than_any_disk_is_an_error() -> None:
    """A size larger than any disk is an error: the index stores sizes in 63 bits."""
    with pytest.raises(Unreadable, match="larger than any disk"):
        units.size("999999P")


@pytest.mark.parametrize("value", [True, None, [], {"a": 1}], ids=repr)
def test_a_value_that_is_neither_text_nor_number_is_no_size(value: object) -> None:
    """A value that is neither a text nor a number is not read as a size."""
    with pytest.raises(Unreadable):
        units.size(value)


@given(st.integers(0, 2**53))
def test_a_shown_size_reads_back(size: int) -> None:
    """A size that `show_size` writes is read as the same size, to the byte."""
    assert size == units.size(units.show_size(size))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("60", 60.0),
        ("0.5", 0.5),
        ("60s", 60.0),
        ("500ms", 0.5),
        ("1h2m3s", 3723.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("30d", 30 * 86400.0),
        ("720h", 30 * 86400.0),
        ("1w", 7 * 86400.0),
        ("1.5h", 5400.0),
        ("168h", 7 * 86400.0),
    ],
)
def test_a_span_is_read_in_seconds(text: str, expected: float) -> None:
    """A span without a unit is in seconds; several units may be combined."""
    assert expected == units.span(text)


@pytest.mark.parametrize("text", ["", "1x", "h", "-1s", "1h2", "1 hour", "1e3", "soon", "1:30"])
def test_an_invalid_span_is_an_error(text: str) -> None:
    """An invalid span is an error whose remedy shows valid spans."""
    with pytest.raises(Unreadable) as caught:
        units.span(text)

    assert caught.value.message == "not a span"
    assert caught.value.remedy == "try 1h30m, 30d or 60s"


def test_a_span_longer_than_a_hundred_years_is_an_error() -> None:
    """A span of more than a hundred years is an error, so that no sum of times overflows."""
    with pytest.raises(Unreadable, match="longer than a hundred years"):
        units.span("99999999999w")


def test_a_longer_span_of_zero_is_an_error() -> None:
    """`longer_span` refuses a time of 0: as a time-out it would make each request fail."""
    with pytest.raises(Unreadable, match="too short"):
        units.longer_span("0s")


@given(st.integers(0, 10**12))
def test_a_shown_span_reads_back(milliseconds: int) -> None:
    """A time that `show_span` writes is read as the same time, to the millisecond."""
    assert milliseconds == round(units.span(units.show_span(milliseconds / 1000)) * 1000)


@pytest.mark.parametrize(("text", "expected"), [("20%", 20), ("20", 20), ("0", 0), ("100 %", 100)])
def test_a_percentage_is_read_with_and_without_its_sign(text: str, expected: int) -> None:
    """A percentage is read with and without its sign: `20%` equals `20`."""
    assert expected == units.percentage(text)


@pytest.mark.parametrize("text", ["", "101", "-5", "2.5%", "%", "many"])
def test_an_invalid_percentage_is_an_error(text: str) -> None:
    """An invalid percentage is an error; a percentage is a whole number from 0 to 100."""
    with pytest.raises(Unreadable, match="not a percentage from 0 to 100; try 20%"):
        units.percentage(text)
