"""Tests of `Globs`, which matches repository names for access rules and retention rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository


def _matches(pattern: str, name: str) -> bool:
    return Repository(name) in Globs([pattern])


@pytest.mark.parametrize(
    ("pattern", "matching", "not_matching"),
    [
        ("team/app", ["team/app"], ["team/apps", "team", "a/team/app", "team/app/x"]),
        ("team/*", ["team/app", "team/a.b"], ["team", "team/app/x", "teams/app"]),
        ("team/**", ["team/app", "team/app/x"], ["team", "teams/app", "a/team/b"]),
        ("**", ["a", "a/b", "a/b/c"], []),
        ("*", ["a", "a.b"], ["a/b"]),
        ("**/app", ["app", "a/app", "a/b/app"], ["apps", "a/app/x", "a/myapp"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "z", "a/zz", "b/a/z"]),
        ("team/app-*", ["team/app-one", "team/app-"], ["team/app", "team/app-a/b"]),
        (
            "*.azurecr.io/x",
            ["a.azurecr.io/x", "a.b.azurecr.io/x"],
            ["azurecr.io/x", "a/b.azurecr.io/x"],
        ),
        ("a.b", ["a.b"], ["axb"]),
        ("a/**/**/z", ["a/z", "a/b/c/z"], ["a/b"]),
    ],
)
def test_patterns_match_as_documented(
    pattern: str, matching: list[str], not_matching: list[str]
) -> None:
    """`*` matches characters in one component of a name, and `**` matches whole components."""
    assert [name for name in matching if not _matches(pattern, name)] == []
    assert [name for name in not_matching if _matches(pattern, name)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "a b",
        "a**",
        "**a",
        "a/***",
        "[a]",
        "a?",
        "a:b",
        "a\n",
        "é",
        "a" * 256,
    ],
)
def test_an_invalid_pattern_is_rejected(pattern: str) -> None:
    """An invalid pattern, which could never match a name, is rejected."""
    with pytest.raises(InvalidRepository):
        Globs([pattern])


def test_an_empty_list_matches_nothing() -> None:
    """An empty list of patterns matches no name."""
    assert Repository("a") not in Globs([])


_NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a.b"]), min_size=1, max_size=5)
_PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "**"]), min_size=1, max_size=5)


@given(_PATTERNS, _NAMES)
def test_a_pattern_is_matched_component_by_component(parts: list[str], name: list[str]) -> None:
    """A pattern matches the same names as a slow search, which tries each split of the name."""
    assert _matches("/".join(parts), "/".join(name)) == _matches_any_split(parts, name)


@given(st.lists(_PATTERNS, max_size=4), _NAMES)
def test_several_patterns_match_if_one_of_them_matches(
    patterns: list[list[str]], name: list[str]
) -> None:
    """A list of patterns matches a name if one of them matches; the order has no effect."""
    texts, repository = ["/".join(each) for each in patterns], Repository("/".join(name))

    assert (repository in Globs(texts)) == any(repository in Globs([each]) for each in texts)
    assert (repository in Globs(texts)) == (repository in Globs(reversed(texts)))


@given(_NAMES)
def test_a_name_without_stars_matches_only_itself(name: list[str]) -> None:
    """A pattern without stars matches only the equal name; a dot in it matches only a dot."""
    text = "/".join(name)

    assert _matches(text, text)
    assert not _matches(text, text.replace(".", "x") if "." in text else f"{text}x")


def _matches_any_split(parts: list[str], name: list[str]) -> bool:
    if not parts:
        return not name
    first, rest = parts[0], parts[1:]
    if first == "**":
        least = 0 if rest else 1
        return any(_matches_any_split(rest, name[count:]) for count in range(least, len(name) + 1))
    expression = re.escape(first).replace(r"\*", ".*")
    return bool(name and re.fullmatch(expression, name[0])) and _matches_any_split(rest, name[1:])


def _reference(pattern: list[str], name: list[str]) -> bool:
    """Return whether a name matches a pattern: try all possibilities, which is slow but simple."""
    if not pattern:
        return not name
    first, *others = pattern
    if first == "**":
        most = len(name) + 1
        return any(_reference(others, name[at:]) for at in range(0 if others else 1, most))
    return bool(name) and _component(first, name[0]) and _reference(others, name[1:])


def _component(pattern: str, name: str) -> bool:
    if "*" not in pattern:
        return pattern == name
    first, _, rest = pattern.partition("*")
    if not name.startswith(first):
        return False
    return any(_component(rest, name[at:]) for at in range(len(first), len(name) + 1))


@given(
    pattern=st.lists(
        st.sampled_from(["**", "*", "a", "b", "a*", "*a", "*a*b*", "a*b", "*b*", "ab"]),
        min_size=1,
        max_size=5,
    ),
    name=st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=5),
)
def test_a_pattern_matches_as_a_search_of_every_split(pattern: list[str], name: list[str]) -> None:
    """A pattern with stars in its components matches the same names as a slow, complete search."""
    assert _matches("/".join(pattern), "/".join(name)) == _reference(pattern, name)
