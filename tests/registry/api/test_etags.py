"""If-None-Match and If-Range."""

from __future__ import annotations

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.api import etags

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
def test_a_tag_that_matches_means_not_modified(header: str) -> None:
    """RFC 9110, 13.1.2, weak comparison; a bare digest as docker distribution takes it."""
    assert not etags.none_match(header, _DIGEST)


@pytest.mark.parametrize(
    "header",
    [None, "", f'"{_OTHER}"', f'"{_DIGEST}x"', '"*"', '"', str(_DIGEST)[:-1]],
    ids=["none", "empty", "other", "longer", "quoted star", "unclosed", "shorter"],
)
def test_a_tag_that_does_not_match_lets_the_whole_be_sent(header: str | None) -> None:
    """Only the whole digest counts."""
    assert etags.none_match(header, _DIGEST)


def test_what_etag_writes_both_headers_match() -> None:
    """The tag sent with an answer is the one that comes back."""
    assert not etags.none_match(etags.etag(_DIGEST), _DIGEST)
    assert etags.may_range(etags.etag(_DIGEST), _DIGEST)


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
def test_a_part_is_sent_only_of_the_very_same_content(
    header: str | None,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """RFC 9110, 13.1.5: strong comparison; a resumed download never mixes two contents."""
    assert expected == etags.may_range(header, _DIGEST)
