"""Test access rules, and users that the configuration contains (`auth.htpasswd.users`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import config
from entrepot.config import access
from entrepot.config.access import AccessRule
from entrepot.config.errors import Unreadable
from entrepot.datastore.globs import Globs
from entrepot.registry.auth.rules import disk_pattern
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

HASH = "$2b$10$3Q54JOQD2g9aCfmTOWMBPO4P9JkcmzfgoHCTe.EE/Tt.Jz9yt3BYK"
_USERS = f"auth: {{htpasswd: {{users: {{ann: {HASH}}}}}, anonymous: pull}}\n"


def test_a_rule_names_users_repositories_and_actions(config_folder: ConfigFolder) -> None:
    """Each field of an access rule (user, repository, action) is one value or several.

    Actions are put into a fixed order, so that rules with the same actions compare equal.
    """
    config_folder.write(
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

    assert config_folder.settings().access == (
        AccessRule(("ann bee",), ("team/**",), ("pull", "push")),
        AccessRule(("*", "bob"), ("quay.io/*", "localhost:5000/x"), ("pull",)),
        AccessRule(("anonymous",), ("docker.io/**",), ("pull",)),
    )


def test_rules_and_users_may_be_set_in_the_environment(config_folder: ConfigFolder) -> None:
    """Access rules and users in variables are YAML and take precedence over the file."""
    config_folder.write(_USERS + "access: [{user: ann, repository: a, allow: pull}]")
    settings = config_folder.settings(
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
            "rule 1: repository: none; ** means every repository",
        ),
        ("[{repository: a, allow: pull}]", "rule 1: user: none; name a user, * for every user,"),
        ("[{user: ann, repository: a}]", "rule 1: allow: none; pull, push, delete"),
        (
            "[{user: ann, repository: a, alow: pull}]",
            "rule 1: no such key: alow, did you mean allow?, rule 1: allow: none",
        ),
        ("[{user: ann, repository: a, allow: read}]", "rule 1: allow: no 'read' (try pull, push"),
        ("[{user: ann, repository: a, allow: pul}]", "no 'pul', did you mean pull?"),
        ("[{user: ann, repository: a**, allow: pull}]", "'a**' can't be a name or a pattern"),
        ("[{user: ann, repository: /a, allow: pull}]", "'/a' can't be a name or a pattern"),
        ("[{user: ann, repository: {a: b}, allow: pull}]", "rule 1: repository: not a list"),
        ("[{user: 'a:b', repository: a, allow: pull}]", "'a:b' can't be a name"),
        (
            "[{user: anonymous, repository: a, allow: [pull, push]}]",
            "rule 1: allow: anonymous may only pull",
        ),
        (
            "[{user: ann, repository: a, allow: pull}, {user: a, repository: '', allow: pull}]",
            "rule 2: repository: none",
        ),
    ],
)
def test_an_invalid_rule_is_a_problem(
    config_folder: ConfigFolder, rules: str, expected: str
) -> None:
    """The message about an invalid access rule has the number of the rule and the key.

    If the appliance ignored such a rule, the rule would protect nothing.
    """
    config_folder.write(_USERS + f"access: {rules}")

    (problem,) = config_folder.problems()

    assert problem.startswith("config.yml:2: access=")
    assert expected in problem
    assert "try [{user: ann" in problem


def test_an_empty_list_of_rules_is_valid(config_folder: ConfigFolder) -> None:
    """An empty list of access rules is valid, and denies everything.

    An empty variable of access rules is an error, because the operator may have forgotten the
    value.
    """
    config_folder.write(_USERS.replace("pull", "none") + "access: []")

    assert config_folder.settings().access == ()
    assert config_folder.problems(REGISTRY_ACCESS="")[0].startswith("REGISTRY_ACCESS=: ")


def test_rules_without_users_are_a_problem(config_folder: ConfigFolder) -> None:
    """Access rules without any user are a problem, because every client would be anonymous."""
    config_folder.write("access: [{user: ann, repository: a, allow: pull}]")

    remedy = "set auth.htpasswd.path or auth.htpasswd.users, or auth.token"
    message = "access rules are set but no users are configured"
    assert [f"config.yml:1: access: {message}; {remedy}"] == config_folder.problems()


def test_a_rule_for_anonymous_requires_anonymous_access(config_folder: ConfigFolder) -> None:
    """An access rule for `anonymous` is a problem if anonymous access is not allowed.

    If anonymous access is allowed, access rules without such a rule cause a warning.
    """
    config_folder.write(_USERS + "access: [{user: anonymous, repository: a, allow: pull}]")
    assert config_folder.problems() == []
    problem = (
        "access: a rule is for anonymous, but auth.anonymous is none; set auth.anonymous: pull"
    )
    assert [f"config.yml:2: {problem}"] == config_folder.problems(REGISTRY_AUTH_ANONYMOUS="none")

    config_folder.write(_USERS + "access: [{user: ann, repository: a, allow: pull}]")
    (warning,) = config_folder.warnings()
    assert warning.startswith(
        "auth.anonymous=pull: the key has no effect: no access rule is for anon"
    )


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
def test_an_invalid_user_is_a_problem(
    config_folder: ConfigFolder, users: str, expected: str
) -> None:
    """The message about an invalid user shows no part of the password."""
    config_folder.write(f"auth: {{htpasswd: {{users: {users}}}}}")

    (problem,) = config_folder.problems()

    assert problem.startswith("config.yml:1: auth.htpasswd.users=***: ")
    assert expected in problem
    assert "sesame" not in problem


def test_rules_and_users_reach_the_workers(
    config_folder: ConfigFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Access rules and users reach the workers unchanged in the settings file.

    The settings file names the configuration file from which workers reread rules and users.
    """
    config_folder.write(_USERS + "access: [{user: anonymous, repository: [a, b/*], allow: pull}]")
    settings = config_folder.settings()
    monkeypatch.chdir("/")
    config.dump(settings, tmp_path / run_names.SETTINGS)

    resolved = config.resolved({"ENTREPOT_SETTINGS": str(tmp_path / run_names.SETTINGS)})

    assert (settings.access, settings.auth) == (resolved.access, resolved.auth)
    assert config_folder.file == resolved.followed.file
    assert resolved.followed.access
    assert resolved.followed.users


def test_rules_are_shown_on_one_line_and_hashes_are_masked(config_folder: ConfigFolder) -> None:
    """`entrepot check` shows access rules on one line and masks hashes."""
    config_folder.write(
        _USERS.replace("pull", "none") + "access: [{user: [a, b], repository: c, allow: push}]"
    )
    shown = {".".join(key): text for key, text in config.shown_settings(config_folder.settings())}

    assert (shown["access"], shown["auth.htpasswd.users"]) == ("a,b push c", "***")
    assert access.show(()) == "no rules: all requests are denied"


_PARTS = st.sampled_from(["a", "*", "**", "a*", "B", "a.b_c-d", "***", "", "?", "a:5000", "é"])


@given(st.lists(_PARTS, max_size=4).map("/".join))
def test_every_accepted_pattern_is_valid_in_a_worker(pattern: str) -> None:
    """Every pattern of an access rule that the configuration accepts is valid in a worker."""
    try:
        rules = access.rules([{"user": "ann", "repository": [pattern], "allow": "pull"}])
    except Unreadable:
        return

    assert rules is not None
    Globs(map(disk_pattern, rules[0].repository))
