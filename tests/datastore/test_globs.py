"""Patterns of repository names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository


def _means(pattern: str, name: str) -> bool:
    return Repository(name) in Globs([pattern])


@pytest.mark.parametrize(
    ("pattern", "means", "means_not"),
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
def test_a_pattern_means_what_the_page_says(
    pattern: str, means: list[str], means_not: list[str]
) -> None:
    """`*` stays in its component, `**` does not; nothing matches by a part of a name."""
    assert [name for name in means if not _means(pattern, name)] == []
    assert [name for name in means_not if _means(pattern, name)] == []


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
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    """A rule that can mean nothing is a mistake that its author must hear of."""
    with pytest.raises(InvalidRepository):
        Globs([pattern])


def test_no_pattern_means_nothing() -> None:
    """An empty list allows nothing."""
    assert Repository("a") not in Globs([])


_NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a.b"]), min_size=1, max_size=5)
_PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "**"]), min_size=1, max_size=5)


@given(_PATTERNS, _NAMES)
def test_a_pattern_is_matched_component_by_component(parts: list[str], name: list[str]) -> None:
    """The same answer as a search that tries every way to share the name out."""
    assert _means("/".join(parts), "/".join(name)) == _shared_out(parts, name)


@given(st.lists(_PATTERNS, max_size=4), _NAMES)
def test_several_patterns_mean_what_one_of_them_means(
    patterns: list[list[str]], name: list[str]
) -> None:
    """Their order does not matter, and none changes another."""
    texts, repository = ["/".join(each) for each in patterns], Repository("/".join(name))

    assert (repository in Globs(texts)) == any(repository in Globs([each]) for each in texts)
    assert (repository in Globs(texts)) == (repository in Globs(reversed(texts)))


@given(_NAMES)
def test_a_name_is_the_pattern_of_itself_alone(name: list[str]) -> None:
    """Its dots are dots."""
    text = "/".join(name)

    assert _means(text, text)
    assert not _means(text, text.replace(".", "x") if "." in text else f"{text}x")


def _shared_out(parts: list[str], name: list[str]) -> bool:
    if not parts:
        return not name
    first, rest = parts[0], parts[1:]
    if first == "**":
        least = 0 if rest else 1
        return any(_shared_out(rest, name[count:]) for count in range(least, len(name) + 1))
    expression = re.escape(first).replace(r"\*", ".*")
    return bool(name and re.fullmatch(expression, name[0])) and _shared_out(rest, name[1:])


def _reference(pattern: list[str], name: list[str]) -> bool:
    """Match component by component, trying every split: what the page says, slowly."""
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
def test_a_pattern_means_what_a_search_of_every_split_finds(
    pattern: list[str], name: list[str]
) -> None:
    """Although an expression takes the first place where its pieces stand."""
    assert _means("/".join(pattern), "/".join(name)) == _reference(pattern, name)
