"""The registry parses If-None-Match, If-Range, Range, and the Content-Range of uploads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Digest
from entrepot.registry.api import etags_and_ranges
from entrepot.registry.api.etags_and_ranges import ByteRange
from entrepot.registry.errors import MalformedRequest, RangeUnsatisfiable

_SIZES = st.integers(min_value=1, max_value=1 << 40)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [ByteRange(0, 1)]),
        ("bytes=0-499", [ByteRange(0, 500)]),
        ("bytes=500-", [ByteRange(500, 1000)]),
        ("bytes=-1", [ByteRange(999, 1000)]),
        ("bytes=-5000", [ByteRange(0, 1000)]),
        ("bytes=990-4000", [ByteRange(990, 1000)]),
        ("BYTES=0-1", [ByteRange(0, 2)]),
        ("bytes=00000-00009", [ByteRange(0, 10)]),
        ("bytes=0-1, 4-5\t,,6-7,", [ByteRange(0, 2), ByteRange(4, 6), ByteRange(6, 8)]),
        ("bytes=8-9,0-1", [ByteRange(8, 10), ByteRange(0, 2)]),
        ("bytes=0-1,2000-", [ByteRange(0, 2)]),
        ("bytes=0-1,-0", [ByteRange(0, 2)]),
        ("bytes=990-" + "9" * 5000, [ByteRange(990, 1000)]),
        ("bytes=-" + "9" * 5000, [ByteRange(0, 1000)]),
        ("bytes=" + "0" * 5000 + "-1", [ByteRange(0, 2)]),
    ],
)
def test_satisfiable_ranges_are_returned_in_the_requested_order(
    header: str, expected: list[ByteRange]
) -> None:
    """The parser returns satisfiable ranges in the requested order.

    The parser drops ranges that start past the end.
    """
    assert expected == etags_and_ranges.parse_range(header, 1000)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0 - 1",
        "bytes =0-1",
        "bytes=0x0-1",
        "bytes=\u0660-\u0661",
        "lines=0-1",
        "0-1",
    ],
)
def test_a_malformed_range_header_is_ignored(header: str | None) -> None:
    """The parser ignores a Range header that is malformed or has another unit (RFC 9110, 14.2)."""
    assert etags_and_ranges.parse_range(header, 1000) is None


@pytest.mark.parametrize(
    "header", ["bytes=0-9,5-14", "bytes=0-,0-", "bytes=5-6,0-5", "bytes=0-,-1"]
)
def test_overlapping_ranges_return_the_whole_body(header: str) -> None:
    """A client that requests overlapping ranges gets the whole body (RFC 9110, 17.15).

    Such a client is either defective or malicious.
    """
    assert etags_and_ranges.parse_range(header, 1000) is None


def test_too_many_ranges_return_the_whole_body() -> None:
    """A client that requests 16 ranges gets these ranges; with 17 it gets the whole body."""
    specs = [f"{start}-{start}" for start in range(0, 34, 2)]

    assert len(etags_and_ranges.parse_range("bytes=" + ",".join(specs[:16]), 1000) or []) == 16
    assert etags_and_ranges.parse_range("bytes=" + ",".join(specs), 1000) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes=1000-",
        "bytes=1000-1001",
        "bytes=-0",
        "bytes=1000-,-0",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + "9" * 5000 + "-" + "9" * 5000,
    ],
    ids=["start", "both", "no suffix", "each of two", "thousands of digits", "both of them"],
)
def test_a_range_past_the_end_is_unsatisfiable(header: str) -> None:
    """If all requested ranges start past the end of the blob, the request is unsatisfiable."""
    with pytest.raises(RangeUnsatisfiable) as caught:
        etags_and_ranges.parse_range(header, 1000)

    assert etags_and_ranges.unsatisfied_range(caught.value.size) == "bytes */1000"


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize(
    "header", ["bytes=1-0", "bytes=500-0", "bytes=5000-4000", "bytes=0-0,5-4", "bytes=5-4,0-0"]
)
def test_a_range_that_ends_before_it_starts_is_unsatisfiable(header: str, size: int) -> None:
    """If one range ends before it starts, the whole header is invalid (RFC 9110, 14.1.1).

    Such a request is unsatisfiable, even if the header also has valid ranges.
    """
    with pytest.raises(RangeUnsatisfiable) as caught:
        etags_and_ranges.parse_range(header, size)

    assert caught.value.size == size


def test_an_empty_blob_satisfies_a_suffix_but_no_position() -> None:
    """For an empty blob, a suffix range is satisfiable and a range with a start offset is not.

    See RFC 9110, 14.1.2.
    """
    assert etags_and_ranges.parse_range("bytes=-5", 0) is None
    with pytest.raises(RangeUnsatisfiable):
        etags_and_ranges.parse_range("bytes=0-", 0)


@given(_SIZES, st.data())
def test_every_valid_range_round_trips(size: int, data: st.DataObject) -> None:
    """A valid range keeps its positions when it is parsed and written as a Content-Range."""
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))

    (read,) = etags_and_ranges.parse_range(f"bytes={start}-{stop - 1}", size) or []

    assert read == ByteRange(start, stop)
    assert read.length == stop - start
    assert read.content_range(size) == f"bytes {start}-{stop - 1}/{size}"


@given(st.text(alphabet="bytes=-,0123456789 \tx", max_size=40) | st.text(), st.integers(0, 100))
def test_any_header_is_ignored_rejected_or_within_the_size(header: str, size: int) -> None:
    """Any Range header is ignored, rejected as unsatisfiable, or parsed to ranges within the blob.

    The parsed ranges do not overlap.
    """
    for text in (header, "bytes=" + header):
        try:
            found = etags_and_ranges.parse_range(text, size)
        except RangeUnsatisfiable:
            continue
        covered = [byte for each in found or [] for byte in range(each.start, each.stop)]
        assert found != []
        assert len(covered) == len(set(covered))
        assert set(covered) <= set(range(size))


_DIGEST = Digest.of(b"a blob")
_OTHER = Digest.of(b"another")


@pytest.mark.parametrize(
    "header",
    [
        f'"{_DIGEST}"',
        f'W/"{_DIGEST}"',
        f'"{_OTHER}", "{_DIGEST}"',
        f'W/"{_OTHER}",W/"{_DIGEST}"',
        "*",
        " * ",
        str(_DIGEST),
    ],
    ids=["one", "weak", "list", "tight list of weak ones", "any", "any, padded", "bare digest"],
)
def test_a_matching_tag_means_not_modified(header: str) -> None:
    """If-None-Match uses the weak comparison (RFC 9110, 13.1.2): `W/` before an ETag is ignored.

    The digest without quotes also matches, as in docker distribution.
    """
    assert not etags_and_ranges.none_match(header, _DIGEST)


@pytest.mark.parametrize(
    "header",
    [None, "", f'"{_OTHER}"', f'"{_DIGEST}x"', '"*"', '"', str(_DIGEST)[:-1]],
    ids=["none", "empty", "other", "longer", "quoted star", "unclosed", "shorter"],
)
def test_a_different_tag_returns_the_content(header: str | None) -> None:
    """If no ETag in If-None-Match matches the content, the client gets the content."""
    assert etags_and_ranges.none_match(header, _DIGEST)


def test_both_headers_match_the_value_of_etag() -> None:
    """If a client sends the ETag of a response in If-None-Match or If-Range, the ETag matches."""
    assert not etags_and_ranges.none_match(etags_and_ranges.etag(_DIGEST), _DIGEST)
    assert etags_and_ranges.may_range(etags_and_ranges.etag(_DIGEST), _DIGEST)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, True),
        (f'"{_DIGEST}"', True),
        (str(_DIGEST), True),
        (f'W/"{_DIGEST}"', False),
        (f'"{_OTHER}"', False),
        ("Sat, 22 Nov 2025 06:39:00 GMT", False),
        ("*", False),
    ],
    ids=["none", "same", "bare", "weak", "other", "date", "star"],
)
def test_if_range_permits_a_range_of_identical_content_only(
    header: str | None,
    expected: bool,  # noqa: FBT001 - a column of the test's table
) -> None:
    """A client with If-Range gets a range only if the ETag in If-Range matches the content.

    The comparison is strong (RFC 9110, 13.1.5), so a weak ETag does not match. A date never
    matches.
    """
    assert expected == etags_and_ranges.may_range(header, _DIGEST)


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
def test_an_upload_range_is_inclusive_at_both_ends(header: str, start: int, stop: int) -> None:
    """The Content-Range of an uploaded chunk includes both its first and its last position.

    The header can also have a unit and a total length, as in RFC 9110.
    """
    assert etags_and_ranges.parse_upload_range(header) == ByteRange(start, stop)


@pytest.mark.parametrize("header", [None, ""])
def test_a_chunk_may_have_no_content_range(header: str | None) -> None:
    """A chunk without Content-Range is accepted; clients that stream an upload send none."""
    assert etags_and_ranges.parse_upload_range(header) is None


@pytest.mark.parametrize("header", ["5", "5-", "-5", "9-5", "a-b", "1-2-3", "0-" + "9" * 20, "٣-٤"])
def test_a_malformed_upload_range_is_rejected(header: str) -> None:
    """A chunk's Content-Range is rejected if it is malformed or ends before it starts.

    A position of 20 digits is also rejected.
    """
    with pytest.raises(MalformedRequest):
        etags_and_ranges.parse_upload_range(header)


@pytest.mark.parametrize(("offset", "expected"), [(0, "0-0"), (1, "0-0"), (1024, "0-1023")])
def test_the_received_range_ends_with_the_last_byte(offset: int, expected: str) -> None:
    """The Range header in an upload's status ends with the position of the last received byte.

    For an empty upload the header is 0-0, because Docker's client cannot parse an empty range.
    """
    assert etags_and_ranges.received_range(offset) == expected
