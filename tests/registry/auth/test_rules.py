"""The access rules determine the actions that a user is permitted in each repository."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository
from entrepot.registry.auth import rules as auth_rules
from entrepot.registry.auth.rules import ALL, PULL, AccessGrant, AccessRules
from entrepot.runtime.access import Action

_SECRET = Repository("quay.io/secret/app")
_OPEN = Repository("quay.io/open/app")


def _rule(user: str, repository: str, *allow: Action) -> AccessGrant:
    return AccessGrant((user,), (repository,), frozenset(allow))


def test_an_action_that_no_rule_permits_is_forbidden() -> None:
    """An action that no access rule permits to a user is forbidden.

    A rule for another user has no effect.
    """
    rules = AccessRules([_rule("ann", "quay.io/secret/**", "pull"), _rule("bob", "**", "push")])
    ann = rules.of("ann")

    assert ann.allow("pull", _SECRET)
    assert not ann.allow("push", _SECRET)
    assert not ann.allow("pull", _OPEN)
    assert not rules.of("carl").allow("pull", _SECRET)
    assert not rules.of(None).allow("pull", _SECRET)


def test_the_rights_of_all_matching_rules_are_combined() -> None:
    """A user has the rights of all matching rules; no rule takes away another rule's rights."""
    rules = AccessRules([_rule("*", "quay.io/open/*", "pull"), _rule("ann", "quay.io/**", "push")])
    ann = rules.of("ann")

    assert ann.allow("pull", _OPEN)
    assert ann.allow("push", _OPEN)
    assert ann.allow("push", _SECRET)
    assert not ann.allow("pull", _SECRET)


def test_a_star_means_every_user_with_a_password() -> None:
    """The user `*` in an access rule matches each user with a password, but no anonymous client."""
    rules = AccessRules([_rule("*", "**", "pull", "push")])

    assert rules.of("ann").allow("push", _OPEN)
    assert not rules.of(None).allow("pull", _OPEN)


def test_users_may_pull_everything_that_anonymous_clients_may() -> None:
    """A user can pull everything that anonymous clients can pull, so a login removes no rights.

    Anonymous clients can only pull, even if a rule permits more.
    """
    rules = AccessRules([_rule("anonymous", "quay.io/open/**", "pull", "push", "delete")])

    for user in (None, "ann", "anonymous"):
        assert rules.of(user).allow("pull", _OPEN)
        assert not rules.of(user).allow("push", _OPEN)
        assert not rules.of(user).allow("pull", _SECRET)


def test_without_any_rule_nothing_is_permitted() -> None:
    """An empty list of access rules permits nothing."""
    assert AccessRules([]).of("ann").actions == frozenset()


def test_without_a_repository_a_right_in_any_repository_counts() -> None:
    """A request that names no repository is permitted if the user has the right in any repository.

    An example is the request for metrics.
    """
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
def test_a_pattern_may_have_the_form_that_clients_use(pattern: str, named: str) -> None:
    """A pattern in an access rule can have the form that clients use for a repository's name.

    In that form, a colon precedes a port, and official images of Docker Hub have no `library/`.
    """
    assert named == auth_rules.disk_pattern(pattern)


def test_an_invalid_pattern_is_rejected_when_the_rules_are_made() -> None:
    """An access rule with an invalid pattern raises an error when the rules are created."""
    with pytest.raises(InvalidRepository):
        AccessRules([_rule("ann", "team/[ab]", "pull")])


# ---- tests of the rights class, a hash of a client's rights


def test_users_with_equal_rights_share_a_rights_class() -> None:
    """Two users with equal rights share a rights class even if different rules give the rights."""
    one = AccessRules([AccessGrant(("ann", "bob"), ("a/*", "b"), PULL)])
    other = AccessRules(
        [_rule("bob", "b", "pull"), _rule("*", "a/*", "pull"), _rule("x", "z", "pull")]
    )

    assert one.of("ann").name == one.of("bob").name == other.of("bob").name
    assert len({one.of("ann").name, other.of("ann").name, one.of(None).name}) == 3


def test_anonymous_clients_never_share_a_class_with_users() -> None:
    """Anonymous clients and users have different rights classes, even if their rights are equal."""
    rules = AccessRules([_rule("anonymous", "**", "pull")])

    assert rules.of(None).name != rules.of("ann").name
    assert auth_rules.everywhere(PULL, is_user=False).name == rules.of(None).name


def test_a_rights_class_is_valid_in_a_header_and_a_host_name() -> None:
    """A rights class consists of 25 letters and digits and contains no repository name.

    So a rights class is valid in a header and in a host name.
    """
    name = AccessRules([_rule("ann", "secret/*", *ALL)]).of("ann").name

    assert name.isascii()
    assert name.isalnum()
    assert len(name) == 25


# ---- properties that hold for all access rules; Hypothesis generates the rules

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
def test_rights_are_exactly_those_of_the_rules(rules: list[AccessGrant], user: str | None) -> None:
    """A user's rights are exactly those of the access rules that match the user."""
    expected = {
        (action, name)
        for action in _ACTIONS
        for name in _NAMES
        for rule in rules
        if _concerns(rule, user, action) and name in Globs(rule.repositories)
    }

    assert expected == _allowed(rules, user)


@given(_RULES, st.sampled_from([None, "ann", "carl"]))
def test_the_order_of_rules_has_no_effect(rules: list[AccessGrant], user: str | None) -> None:
    """The order of access rules changes neither the rights nor the rights class."""
    orders = [list(each) for each in permutations(rules)][:6]

    assert len({frozenset(_allowed(each, user)) for each in orders}) == 1
    assert len({AccessRules(each).of(user).name for each in orders}) == 1


@given(_RULES, _RULES, st.sampled_from([None, "ann", "carl"]))
def test_an_additional_rule_removes_no_right(
    rules: list[AccessGrant], more: list[AccessGrant], user: str | None
) -> None:
    """An additional access rule never removes a right."""
    assert _allowed(rules, user) <= _allowed(rules + more, user)


@given(_RULES, _RULES, *[st.sampled_from([None, "ann", "bob", "carl"])] * 2)
def test_clients_of_one_class_have_equal_rights(
    rules: list[AccessGrant], others: list[AccessGrant], user: str | None, other: str | None
) -> None:
    """If two clients have the same rights class, they have equal rights.

    This is necessary, because HAProxy serves both clients from the same cache entries.
    """
    same = AccessRules(rules).of(user).name == AccessRules(others).of(other).name

    assert not same or _allowed(rules, user) == _allowed(others, other)


@given(_RULES)
def test_users_have_all_anonymous_rights(rules: list[AccessGrant]) -> None:
    """Whatever the access rules are, a user has all rights of anonymous clients."""
    assert _allowed(rules, None) <= _allowed(rules, "carl")


@pytest.mark.parametrize(("pattern", "is_everywhere"), [("**", True), ("quay.io/**", False)])
def test_only_a_pattern_of_two_stars_means_every_repository(
    pattern: str, *, is_everywhere: bool
) -> None:
    """A user has a right everywhere only if a rule with the pattern `**` gives it.

    A right everywhere gives access to the metrics of all upstreams, so a right for one upstream
    must not suffice.
    """
    rules = AccessRules([AccessGrant(("ann",), (pattern,), frozenset({"pull"}))])

    assert rules.of("ann").everywhere("pull") is is_everywhere
    assert not rules.of("ann").everywhere("push")
