"""Which user may do what in which repository."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository
from entrepot.registry.auth import rules as auth_rules
from entrepot.registry.auth.rules import ALL, PULL, AccessGrant, AccessRules, Action

_SECRET = Repository("quay.io/secret/app")
_OPEN = Repository("quay.io/open/app")


def _rule(user: str, repository: str, *allow: Action) -> AccessGrant:
    return AccessGrant((user,), (repository,), frozenset(allow))


def test_what_no_rule_allows_is_not_allowed() -> None:
    """Another user's rule, another repository's, another action's: none of them helps."""
    rules = AccessRules([_rule("ann", "quay.io/secret/**", "pull"), _rule("bob", "**", "push")])
    ann = rules.of("ann")

    assert ann.allow("pull", _SECRET)
    assert not ann.allow("push", _SECRET)
    assert not ann.allow("pull", _OPEN)
    assert not rules.of("carl").allow("pull", _SECRET)
    assert not rules.of(None).allow("pull", _SECRET)


def test_what_one_rule_allows_no_other_takes_back() -> None:
    """All that concern a user are put together."""
    rules = AccessRules([_rule("*", "quay.io/open/*", "pull"), _rule("ann", "quay.io/**", "push")])
    ann = rules.of("ann")

    assert ann.allow("pull", _OPEN)
    assert ann.allow("push", _OPEN)
    assert ann.allow("push", _SECRET)
    assert not ann.allow("pull", _SECRET)


def test_a_star_is_whoever_has_a_password() -> None:
    """And nobody else."""
    rules = AccessRules([_rule("*", "**", "pull", "push")])

    assert rules.of("ann").allow("push", _OPEN)
    assert not rules.of(None).allow("pull", _OPEN)


def test_what_anybody_may_pull_every_user_may_pull() -> None:
    """Who logs in does not lose by it; more than to pull is nobody's without a password."""
    rules = AccessRules([_rule("anonymous", "quay.io/open/**", "pull", "push", "delete")])

    for user in (None, "ann", "anonymous"):
        assert rules.of(user).allow("pull", _OPEN)
        assert not rules.of(user).allow("push", _OPEN)
        assert not rules.of(user).allow("pull", _SECRET)


def test_of_no_rule_nothing_is_allowed() -> None:
    """Whose last right was taken has none."""
    assert AccessRules([]).of("ann").actions == frozenset()


def test_of_the_registry_as_a_whole_it_counts_what_is_allowed_anywhere() -> None:
    """Metrics are for whoever may pull something."""
    ann = AccessRules([_rule("ann", "quay.io/secret/**", "pull")]).of("ann")

    assert ann.allow("pull", None)
    assert not ann.allow("push", None)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("localhost:5000/team/**", "localhost_5000/team/**"),
        ("Quay.IO/Team/*", "quay.io/team/*"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("docker.io/*", "docker.io/library/*"),
        ("docker.io/**", "docker.io/**"),
        ("docker.io/grafana/*", "docker.io/grafana/*"),
        ("docker.io", "docker.io"),
        ("**", "**"),
    ],
)
def test_a_pattern_may_be_written_as_a_name_is(pattern: str, named: str) -> None:
    """A port with its colon, and Docker Hub's images without `library`: as clients write them."""
    assert named == auth_rules.disk_pattern(pattern)


def test_what_is_no_pattern_is_refused_at_once() -> None:
    """Not when its user comes."""
    with pytest.raises(InvalidRepository):
        AccessRules([_rule("ann", "team/[ab]", "pull")])


# ---- the rights class


def test_equal_rights_have_one_class() -> None:
    """However the rules put it: HAProxy's memory is shared by all who may do the same."""
    one = AccessRules([AccessGrant(("ann", "bob"), ("a/*", "b"), PULL)])
    other = AccessRules(
        [_rule("bob", "b", "pull"), _rule("*", "a/*", "pull"), _rule("x", "z", "pull")]
    )

    assert one.of("ann").name == one.of("bob").name == other.of("bob").name
    assert len({one.of("ann").name, other.of("ann").name, one.of(None).name}) == 3


def test_a_stranger_has_a_class_of_his_own() -> None:
    """Also where he may do what a user may."""
    rules = AccessRules([_rule("anonymous", "**", "pull")])

    assert rules.of(None).name != rules.of("ann").name
    assert auth_rules.everywhere(PULL, is_user=False).name == rules.of(None).name


def test_a_class_can_stand_in_a_header_and_a_host() -> None:
    """Letters and digits, and short; no name of a repository shows."""
    name = AccessRules([_rule("ann", "secret/*", *ALL)]).of("ann").name

    assert name.isascii()
    assert name.isalnum()
    assert len(name) == 25


# ---- for any rules

_USERS = ["ann", "bob", "*", "anonymous"]
_PATTERNS = ["a", "a/*", "a/**", "b/**", "*/x", "**"]
_NAMES = [Repository(each) for each in ("a", "a/x", "a/y/z", "b/x", "c/x", "d")]
_ACTIONS: list[Action] = ["pull", "push", "delete"]
_RULES = st.lists(
    st.builds(
        AccessGrant,
        users=st.lists(st.sampled_from(_USERS), min_size=1, max_size=2).map(tuple),
        repositories=st.lists(st.sampled_from(_PATTERNS), min_size=1, max_size=2).map(tuple),
        allow=st.frozensets(st.sampled_from(_ACTIONS), min_size=1),
    ),
    max_size=4,
)


def _allowed(rules: list[AccessGrant], user: str | None) -> set[tuple[Action, Repository]]:
    rights = AccessRules(rules).of(user)
    return {(action, name) for action in _ACTIONS for name in _NAMES if rights.allow(action, name)}


def _concerns(rule: AccessGrant, user: str | None, action: Action) -> bool:
    mine = set[str]() if user is None else {user, "*"}
    is_open = "anonymous" in rule.users and action == "pull"
    return action in rule.allow and (is_open or bool(mine.intersection(rule.users)))


@given(_RULES, st.sampled_from([None, "ann", "bob", "carl"]))
def test_a_right_is_there_because_of_a_rule(rules: list[AccessGrant], user: str | None) -> None:
    """Each that is there has a rule that says so, and each rule is obeyed."""
    expected = {
        (action, name)
        for action in _ACTIONS
        for name in _NAMES
        for rule in rules
        if _concerns(rule, user, action) and name in Globs(rule.repositories)
    }

    assert expected == _allowed(rules, user)


@given(_RULES, st.sampled_from([None, "ann", "carl"]))
def test_the_order_of_rules_means_nothing(rules: list[AccessGrant], user: str | None) -> None:
    """Neither for a right nor for its class."""
    orders = [list(each) for each in permutations(rules)][:6]

    assert len({frozenset(_allowed(each, user)) for each in orders}) == 1
    assert len({AccessRules(each).of(user).name for each in orders}) == 1


@given(_RULES, _RULES, st.sampled_from([None, "ann", "carl"]))
def test_a_rule_more_takes_no_right_away(
    rules: list[AccessGrant], more: list[AccessGrant], user: str | None
) -> None:
    """And a rule less gives none."""
    assert _allowed(rules, user) <= _allowed(rules + more, user)


@given(_RULES, _RULES, *[st.sampled_from([None, "ann", "bob", "carl"])] * 2)
def test_who_shares_a_class_shares_every_right(
    rules: list[AccessGrant], others: list[AccessGrant], user: str | None, other: str | None
) -> None:
    """Else one would be shown from memory what only the other may see."""
    same = AccessRules(rules).of(user).name == AccessRules(others).of(other).name

    assert not same or _allowed(rules, user) == _allowed(others, other)


@given(_RULES)
def test_what_a_stranger_may_every_user_may(rules: list[AccessGrant]) -> None:
    """For whatever rules."""
    assert _allowed(rules, None) <= _allowed(rules, "carl")


@pytest.mark.parametrize(("pattern", "is_everywhere"), [("**", True), ("quay.io/**", False)])
def test_only_two_stars_alone_are_everywhere(pattern: str, *, is_everywhere: bool) -> None:
    """A right in one upstream is none to be told of the others."""
    rules = AccessRules([AccessGrant(("ann",), (pattern,), frozenset({"pull"}))])

    assert rules.of("ann").everywhere("pull") is is_everywhere
    assert not rules.of("ann").everywhere("push")
