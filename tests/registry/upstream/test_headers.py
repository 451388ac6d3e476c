"""The client parses response headers with valid and invalid values."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.registry.upstream.headers import (
    LARGEST_SIZE,
    ContentRange,
    budget,
    content_digest,
    content_length,
    content_range,
    media_type,
    next_page,
    retry_after,
)
from tests.expressions import growth
from tests.sizes import scaled

URL = "https://reg.example:5000/v2/app/tags/list?n=2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 2-5/10", ContentRange(2, 6, 10)),
        ("bytes 0-0/*", ContentRange(0, 1, None)),
        ("bytes 5-2/10", None),
        ("bytes */10", None),
        ("items 2-5/10", None),
        ("", None),
    ],
)
def test_content_range_is_parsed(text: str, expected: ContentRange | None) -> None:
    """The parser of Content-Range returns an exclusive end; the end in the header is inclusive."""
    assert content_range({"Content-Range": text}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), (" 0 ", 0.0), ("-1", None), ("soon", None), ("", None), ("²", None)],
)
def test_retry_after_in_seconds(text: str, expected: float | None) -> None:
    """A Retry-After may be a number of seconds; an invalid value is treated as missing."""
    assert retry_after({"Retry-After": text}, 0) == expected


@pytest.mark.parametrize(("ahead", "expected"), [(30, 30.0), (-30, 0.0)])
def test_retry_after_as_a_date(ahead: int, expected: float) -> None:
    """A Retry-After may be a date; the parser returns the seconds until this date, at least 0."""
    date = datetime.fromtimestamp(1_000_000 + ahead, UTC)

    assert retry_after({"Retry-After": format_datetime(date, usegmt=True)}, 1_000_000) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (
            '</v2/app/tags/list?last=b>; rel="next"',
            "https://reg.example:5000/v2/app/tags/list?last=b",
        ),
        ("<?last=b>; rel=next", "https://reg.example:5000/v2/app/tags/list?last=b"),
        (
            '<http://reg.example/v2/x?last=b>; title="a, b"; rel="next"',
            "https://reg.example:5000/v2/x?last=b",
        ),
        ('</a>; rel="prev", </b?c>; rel="next"', "https://reg.example:5000/b?c"),
        ('</a>; rel="prev"', None),
        ("https://inner:1/v2/x?last=b", None),
        ("<https://inner:1/v2/x?last=b>; rel=next", "https://reg.example:5000/v2/x?last=b"),
        ('/v2/x?last=b&n=1; rel="next"', "https://reg.example:5000/v2/x?last=b&n=1"),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_next_page_is_on_the_same_host(link: str, expected: str | None) -> None:
    """The next page of a list is requested from the host that sent the previous page.

    The scheme, the host and the port in the link are ignored.
    """
    assert next_page({"Link": link}, URL) == expected


@pytest.mark.parametrize(
    "link",
    [
        "<ftp://reg.example/>; rel=next",
        "<http://[bad/>; rel=next",
        "</a\x01b>; rel=next",
        "<http:1/v2/x>; rel=next",
        "<http:.other.example/v2/x>; rel=next",
        "<http:@other.example/v2/x>; rel=next",
        "<http:\\\\other.example\\x>; rel=next",
        "<http://other.example>; rel=next",
    ],
)
def test_a_next_page_that_is_not_a_url_is_an_error(link: str) -> None:
    """If the link to the next page is not a URL, the parser raises ValueError.

    Otherwise the list would end early, and no client would notice that.
    """
    with pytest.raises(ValueError, match="URL"):
        next_page({"Link": link}, URL)


def test_length_type_digest_and_rate_limit_are_parsed() -> None:
    """The client parses the length, the media type, the digest and the rate limit of a response."""
    assert content_length({"Content-Length": "12"}) == 12
    assert content_length({"Content-Length": "x"}) is None
    assert media_type({"Content-Type": "Text/HTML; charset=x"}) == "text/html"
    assert content_digest({"Docker-Content-Digest": "sha256:x"}) is None
    rate = {"RateLimit-Remaining": "7;w=21600", "RateLimit-Limit": "100;w=21600"}
    assert budget(rate) == (7, 100)
    assert budget({"RateLimit-Limit": "100"}) is None


ABSURD = [
    "9" * 5000,
    "0" * 5000,
    "-1",
    "+5",
    "1e9",
    "0x10",
    "1_000",
    "١٢",
    "²",
    "NaN",
    "inf",
    str(2**63),
    str(2**64),
    "5, 6",
    "\x00",
    "",
    " ",
    "x" * 65536,
]
"""Texts that a hostile upstream can send in place of a number or a date in a header."""
DATES = ["Thu, 01 Jan 9999999 00:00:00 GMT", "Thu, 99 Foo 2026 99:99:99 GMT", "0", "1 1 1 1", ","]


@pytest.mark.parametrize("text", ABSURD)
def test_an_impossible_number_counts_as_missing(text: str) -> None:
    """A header with an impossible number, such as a length above 8 PiB, is treated as missing."""
    assert content_length({"Content-Length": text}) is None
    assert content_range({"Content-Range": f"bytes 0-{text}/{text}"}) is None
    assert content_range({"Content-Range": f"bytes {text}-9/10"}) is None
    assert budget({"RateLimit-Remaining": text, "RateLimit-Limit": "100"}) is None
    assert budget({"RateLimit-Remaining": "1", "RateLimit-Limit": f"{text};w=1"}) is None


def test_the_largest_accepted_length_is_8_pib() -> None:
    """The largest accepted length is 8 PiB.

    So the sum of several hundred lengths fits into an integer of the index, which has 64 bits.
    """
    assert content_length({"Content-Length": str(LARGEST_SIZE)}) == LARGEST_SIZE
    assert content_length({"Content-Length": str(LARGEST_SIZE + 1)}) is None
    assert content_range({"Content-Range": f"bytes 0-0/{LARGEST_SIZE + 1}"}) is None


@pytest.mark.parametrize("text", ["bytes 5-5/5", "bytes 0-0/0", "bytes 0-9/9"])
def test_a_range_past_the_size_is_ignored(text: str) -> None:
    """A Content-Range whose last byte is not within its size is ignored."""
    assert content_range({"Content-Range": text}) is None


@pytest.mark.parametrize("text", [*ABSURD, *DATES])
def test_an_absurd_retry_after_is_bounded_or_ignored(text: str) -> None:
    """An absurd Retry-After is ignored or limited to about a year."""
    wait = retry_after({"Retry-After": text}, 0)

    assert wait is None or 0 <= wait <= 366 * 86400


@given(st.text(max_size=80), st.sampled_from(["Retry-After", "Content-Range", "RateLimit-Limit"]))
@settings(max_examples=scaled(30, 150))
def test_no_header_value_raises(text: str, name: str) -> None:
    """Any text in a response header is parsed or ignored without an error."""
    headers = {name: text, "RateLimit-Remaining": text, "Content-Length": text}
    content_length(headers), content_range(headers), retry_after(headers, 0), budget(headers)
    content_digest({"Docker-Content-Digest": text}), media_type({"Content-Type": text})


@given(st.text(alphabet='<>;=", \trelnxt/?*:[]@', max_size=60))
@settings(max_examples=scaled(50, 300))
def test_a_link_raises_only_valueerror(text: str) -> None:
    """An unusable Link raises ValueError and no other error."""
    with suppress(ValueError):
        page = next_page({"Link": text}, URL)

        assert page is None or page.startswith("https://reg.example:5000")


@pytest.mark.parametrize("piece", ["<", "<>", "<>;", "<>; a=", '<>;a="', "<>;a", ";", " ", "<>; "])
def test_parsing_a_link_takes_linear_time(piece: str) -> None:
    """The time to parse a Link header grows linearly with its length."""
    assert growth(lambda text: next_page({"Link": text}, URL), piece) < 4
