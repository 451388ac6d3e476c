"""Where a chunk belongs, and how far an upload has come."""

from __future__ import annotations

import pytest

from entrepot.registry.api import upload_ranges
from entrepot.registry.api.ranges import ByteRange
from entrepot.registry.errors import MalformedRequest


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("1024-2047", 1024, 2048),
        (" 5-9 ", 5, 10),
        ("bytes 5-9/100", 5, 10),
        ("bytes 5-9/*", 5, 10),
        ("bytes=5-9", 5, 10),
    ],
)
def test_a_range_is_inclusive_at_both_ends(header: str, start: int, stop: int) -> None:
    """With or without what RFC 9110 would have around it."""
    assert upload_ranges.parse(header) == ByteRange(start, stop)


@pytest.mark.parametrize("header", [None, ""])
def test_a_chunk_may_say_nothing(header: str | None) -> None:
    """A streamed one."""
    assert upload_ranges.parse(header) is None


@pytest.mark.parametrize("header", ["5", "5-", "-5", "9-5", "a-b", "1-2-3", "0-" + "9" * 20, "٣-٤"])
def test_what_is_no_range_is_refused(header: str) -> None:
    """Also one that ends before it begins, and a number of which nobody has so many bytes."""
    with pytest.raises(MalformedRequest):
        upload_ranges.parse(header)


@pytest.mark.parametrize(("offset", "expected"), [(0, "0-0"), (1, "0-0"), (1024, "0-1023")])
def test_how_far_it_is_names_the_last_byte(offset: int, expected: str) -> None:
    """Docker's client can't read a range of nothing."""
    assert upload_ranges.received(offset) == expected
