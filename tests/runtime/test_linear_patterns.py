"""Tests of patterns from the settings, which have Go's syntax and are matched in linear time."""

from __future__ import annotations

import pytest

from entrepot.runtime.linear_patterns import LONGEST, MOST, InvalidPattern, LinearPatterns

_GO = LinearPatterns([r"^https?://([^/]+\.)*example\.com/", r"(?i:ONLY)\z"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com/a", True),
        ("http://a.b.example.com/", True),
        ("https://example.com.evil.test/", False),
        ("x only", True),
        ("only x", False),
        ("\ud800", False),
    ],
)
def test_any_of_the_patterns_may_match_a_part_of_the_text(text: str, expected: bool) -> None:  # noqa: FBT001 - a row of the table
    """A text matches if any pattern matches any part of it, as with Go's MatchString."""
    assert _GO.matches(text) is expected


def test_no_pattern_matches_nothing() -> None:
    """If the list of patterns is empty, no text matches, so an empty list permits nothing."""
    assert not LinearPatterns([]).matches("")


def test_a_pattern_that_is_slow_in_other_engines_is_linear() -> None:
    """A pattern that needs exponential time in other engines is matched in linear time."""
    assert not LinearPatterns([r"^(a+a+)+b$"]).matches("a" * 1_000_000)


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        (["("], "missing [)]"),
        (["(?<=a)b"], "invalid perl operator"),
        (["(((a{100}){100}){100}){100}"], "invalid repetition size"),
        (["a" * (LONGEST + 1)], "longer than 1024 characters"),
        (["a"] * (MOST + 1), "more than 64 patterns"),
        (["\ud800"], "not UTF-8"),
    ],
)
def test_a_pattern_that_is_invalid_or_too_large_is_refused(
    patterns: list[str], reason: str
) -> None:
    """An invalid or too large pattern raises InvalidPattern with the reason in one line."""
    with pytest.raises(InvalidPattern, match=reason):
        LinearPatterns(patterns)
