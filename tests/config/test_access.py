"""Who may do what where, as an operator writes it, and users beside the password file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
from config import access
from config.access import AccessRule
from config.errors import Unreadable
from datastore.globs import Globs
from registry.access import named
from tests.config.desk import Desk

HASH = "$2b$10$3Q54JOQD2g9aCfmTOWMBPO4P9JkcmzfgoHCTe.EE/Tt.Jz9yt3BYK"
_USERS = f"auth: {{htpasswd: {{users: {{ann: {HASH}}}}}, anonymous: pull}}\n"


def test_a_rule_names_users_repositories_and_actions(desk: Desk) -> None:
    """Each one or several; the actions in their own order, so that equal rules look equal."""
    desk.write(
        _USERS
        + """
access:
  - {user: ann bee, repository: team/**, allow: [push, pull]}
  - user: ["*", bob]
    repository: [quay.io/*, localhost:5000/x]
    allow: pull
  - {user: anonymous, repository: docker.io/**, allow: pull}
"""
    )

    assert desk.settings().access == (
        AccessRule(("ann bee",), ("team/**",), ("pull", "push")),
        AccessRule(("*", "bob"), ("quay.io/*", "localhost:5000/x"), ("pull",)),
        AccessRule(("anonymous",), ("docker.io/**",), ("pull",)),
    )


def test_rules_and_users_may_stand_in_the_environment(desk: Desk) -> None:
    """As YAML, over the file's."""
    desk.write(_USERS + "access: [{user: ann, repository: a, allow: pull}]")
    settings = desk.settings(
        REGISTRY_ACCESS="[{user: bob, repository: b, allow: pull}, "
        "{user: anonymous, repository: b, allow: pull}]",
        REGISTRY_AUTH_HTPASSWD_USERS=f"{{bob: {HASH}}}",
    )

    assert settings.access is not None
    assert [each.user for each in settings.access] == [("bob",), ("anonymous",)]
    assert settings.auth.htpasswd is not None
    assert settings.auth.htpasswd.users == {"bob": HASH}
    assert not settings.followed.access
    assert not settings.followed.users


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("yes", "not a list of rules"),
        ("{user: ann}", "not a list of rules"),
        ("[ann]", "rule 1: not a map"),
        (
            "[{user: ann, allow: pull}]",
            "rule 1: repository: none; ** is every one",
        ),
        ("[{repository: a, allow: pull}]", "rule 1: user: none; name one, * for every user,"),
        ("[{user: ann, repository: a}]", "rule 1: allow: none; pull, push, delete"),
        (
            "[{user: ann, repository: a, alow: pull}]",
            "rule 1: no such key: alow, did you mean allow?, rule 1: allow: none",
        ),
        ("[{user: ann, repository: a, allow: read}]", "rule 1: allow: no 'read', but pull, push"),
        ("[{user: ann, repository: a, allow: pul}]", "no 'pul', did you mean pull?"),
        ("[{user: ann, repository: a**, allow: pull}]", "'a**' can't be a name or a pattern"),
        ("[{user: ann, repository: /a, allow: pull}]", "'/a' can't be a name or a pattern"),
        ("[{user: ann, repository: {a: b}, allow: pull}]", "rule 1: repository: not a list"),
        ("[{user: 'a:b', repository: a, allow: pull}]", "'a:b' can't be a name"),
        (
            "[{user: anonymous, repository: a, allow: [pull, push]}]",
            "rule 1: allow: anonymous may pull at most",
        ),
        (
            "[{user: ann, repository: a, allow: pull}, {user: a, repository: '', allow: pull}]",
            "rule 2: repository: none",
        ),
    ],
)
def test_a_rule_that_cannot_be_read_stops_the_start(desk: Desk, rules: str, expected: str) -> None:
    """By its number and key; a rule that is passed over would protect nothing."""
    desk.write(_USERS + f"access: {rules}")

    (problem,) = desk.problems()

    assert problem.startswith("config.yml:2: access=")
    assert expected in problem
    assert "try [{user: ann" in problem


def test_an_empty_list_of_rules_is_a_list(desk: Desk) -> None:
    """Whoever writes it wants nobody to do anything; a variable that was not filled in is none."""
    desk.write(_USERS.replace("pull", "none") + "access: []")

    assert desk.settings().access == ()
    assert desk.problems(REGISTRY_ACCESS="")[0].startswith("REGISTRY_ACCESS=: ")


def test_rules_without_passwords_are_an_error(desk: Desk) -> None:
    """Everybody would be a stranger."""
    desk.write("access: [{user: ann, repository: a, allow: pull}]")

    remedy = "set auth.htpasswd.path or auth.htpasswd.users"
    assert [f"config.yml:1: access: rules, and nobody has a password; {remedy}"] == desk.problems()


def test_a_rule_for_strangers_needs_an_open_door(desk: Desk) -> None:
    """Else it would mean nothing, unnoticed; and an open door that leads nowhere is told."""
    desk.write(_USERS + "access: [{user: anonymous, repository: a, allow: pull}]")
    assert desk.problems() == []
    problem = "access: a rule for anonymous, and auth.anonymous is none; set auth.anonymous: pull"
    assert [f"config.yml:2: {problem}"] == desk.problems(REGISTRY_AUTH_ANONYMOUS="none")

    desk.write(_USERS + "access: [{user: ann, repository: a, allow: pull}]")
    (warning,) = desk.warnings()
    assert warning.startswith("auth.anonymous=pull: without effect: no rule of access is for anon")


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ("[ann]", "not a map of users"),
        ("{ann: sesame}", "the password of 'ann' is not bcrypt; write it with htpasswd -nB"),
        (f"{{anonymous: {HASH}}}", "'anonymous' can't be a user's name"),
        (f"{{'*': {HASH}}}", "'*' can't be a user's name"),
        (f"{{'a:b': {HASH}}}", "'a:b' can't be a user's name"),
        ("{ann: }", "not a text"),
    ],
)
def test_a_user_that_cannot_be_read_stops_the_start(desk: Desk, users: str, expected: str) -> None:
    """And nothing of a password is shown."""
    desk.write(f"auth: {{htpasswd: {{users: {users}}}}}")

    (problem,) = desk.problems()

    assert problem.startswith("config.yml:1: auth.htpasswd.users=***: ")
    assert expected in problem
    assert "sesame" not in problem


def test_rules_and_users_reach_the_workers(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were read, with the file in which they are followed."""
    desk.write(_USERS + "access: [{user: anonymous, repository: [a, b/*], allow: pull}]")
    settings = desk.settings()
    monkeypatch.chdir("/")
    config.dump(settings, tmp_path / "settings.json")

    resolved = config.resolved({"ENTREPOT_SETTINGS": str(tmp_path / "settings.json")})

    assert (settings.access, settings.auth) == (resolved.access, resolved.auth)
    assert desk.file == resolved.followed.file
    assert resolved.followed.access
    assert resolved.followed.users


def test_rules_are_shown_on_one_line_and_hashes_never(desk: Desk) -> None:
    """As `entrepot check` prints them."""
    desk.write(
        _USERS.replace("pull", "none") + "access: [{user: [a, b], repository: c, allow: push}]"
    )
    shown = {".".join(key): text for key, text in config.shown_settings(desk.settings())}

    assert (shown["access"], shown["auth.htpasswd.users"]) == ("a,b push c", "***")
    assert access.show(()) == "no rule: nobody may do anything"


_PARTS = st.sampled_from(["a", "*", "**", "a*", "B", "a.b_c-d", "***", "", "?", "a:5000", "é"])


@given(st.lists(_PARTS, max_size=4).map("/".join))
def test_what_the_configuration_takes_for_a_pattern_is_one(pattern: str) -> None:
    """Whatever passes here must not fail in a worker."""
    try:
        rules = access.rules([{"user": "ann", "repository": [pattern], "allow": "pull"}])
    except Unreadable:
        return

    assert rules is not None
    Globs(map(named, rules[0].repository))
