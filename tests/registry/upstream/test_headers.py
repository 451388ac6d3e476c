"""What upstreams write into headers, readable or not."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from registry.upstream.headers import (
    ContentRange,
    budget,
    content_digest,
    content_length,
    content_range,
    media_type,
    next_page,
    retry_after,
)

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
def test_content_range(text: str, expected: ContentRange | None) -> None:
    """Stop is exclusive with us, inclusive on the wire."""
    assert content_range({"Content-Range": text}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), (" 0 ", 0.0), ("-1", None), ("soon", None), ("", None), ("²", None)],
)
def test_retry_after_in_seconds(text: str, expected: float | None) -> None:
    """What can't be read was not said."""
    assert retry_after({"Retry-After": text}, 0) == expected


@pytest.mark.parametrize(("ahead", "expected"), [(30, 30.0), (-30, 0.0)])
def test_retry_after_as_a_date(ahead: int, expected: float) -> None:
    """A date that is past means now."""
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
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_next_page_is_on_the_same_host(link: str, expected: str | None) -> None:
    """An upstream behind a proxy may name the wrong scheme or port: ours are kept."""
    assert next_page({"Link": link}, URL) == expected


def test_a_next_page_elsewhere_is_an_error() -> None:
    """A list that ends early would be a wrong list."""
    with pytest.raises(ValueError, match="another host"):
        next_page({"Link": '<https://evil.example/>; rel="next"'}, URL)


def test_small_ones() -> None:
    """Length, type, digest and budget."""
    assert content_length({"Content-Length": "12"}) == 12
    assert content_length({"Content-Length": "x"}) is None
    assert media_type({"Content-Type": "Text/HTML; charset=x"}) == "text/html"
    assert content_digest({"Docker-Content-Digest": "sha256:x"}) is None
    rate = {"RateLimit-Remaining": "7;w=21600", "RateLimit-Limit": "100;w=21600"}
    assert budget(rate) == (7, 100)
    assert budget({"RateLimit-Limit": "100"}) is None
