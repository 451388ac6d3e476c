"""Test YAML in variables and flags, which sets whole values or single parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.config.yaml_text import with_part
from tests.config.config_folder import ConfigFolder
from tests.token_signer import signer

_DEEP = "[" * 1100  # This is more than Python's limit of recursion.
_OF_YAML = (
    "REGISTRY_ACCESS",
    "REGISTRY_HOSTED",
    "REGISTRY_AUTH_HTPASSWD_USERS",
    "REGISTRY_HTTP_TLS_CIPHERSUITES",
    "REGISTRY_HTTP_HEADERS",
    "REGISTRY_LOG_HOOKS",
    "REGISTRY_NOTIFICATIONS_ENDPOINTS",
    "REGISTRY_HEALTH_HTTP",
)


@pytest.mark.parametrize("name", _OF_YAML)
def test_a_deeply_nested_value_is_one_problem(config_folder: ConfigFolder, name: str) -> None:
    """A variable with too deeply nested YAML causes one problem, as such YAML in the file does."""
    found = config_folder.problems(**{name: _DEEP})

    assert any(each.startswith(f"{name}=") and "64 levels" in each for each in found)


def test_merge_keys_of_a_field_do_not_multiply(config_folder: ConfigFolder) -> None:
    """Forty merge keys in a variable are refused, because their expansion would fill the memory."""
    merges = ", ".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 40))
    found = config_folder.problems(REGISTRY_LOG_FIELDS=f"{{m0: &m0 {{a: 1}}, {merges}}}")

    assert any("not YAML" in each for each in found)


@pytest.mark.parametrize(
    ("whole", "path", "expected"),
    [
        (None, ("0", "name"), [{"name": "x"}]),
        ([{"name": "a", "url": "u"}], ("0", "name"), [{"name": "x", "url": "u"}]),
        ([{"name": "a"}], ("1", "name"), [{"name": "a"}, {"name": "x"}]),
        ([{}], ("0", "ignore", "actions"), [{"ignore": {"actions": "x"}}]),
        ([{"to": ["a", "b"]}], ("0", "to", "1"), [{"to": ["a", "x"]}]),
    ],
    ids=range(5),
)
def test_a_part_is_set_and_the_others_stay(
    whole: object, path: tuple[str, ...], expected: object
) -> None:
    """A variable with an index sets one entry of a list; the next free index adds one."""
    assert with_part(whole, path, "x") == expected


@pytest.mark.parametrize(
    ("variables", "section"),
    [
        ({"REGISTRY_HEALTH_FILECHECKERS_0_FILE": "/tmp/down"}, "file"),
        ({"REGISTRY_HEALTH_FILE_0_FILE": "/tmp/down"}, "file"),
        ({"REGISTRY_HEALTH_HTTPCHECKERS": "[{uri: 'http://a.example'}]"}, "http"),
        (
            {
                "REGISTRY_HEALTH_TCPCHECKERS_0_ADDR": "a.example:1",
                "REGISTRY_HEALTH_TCPCHECKERS_0_INTERVAL": "5s",
            },
            "tcp",
        ),
    ],
    ids=range(4),
)
def test_checks_are_set_by_the_names_of_docker_distribution(
    config_folder: ConfigFolder, variables: dict[str, str], section: str
) -> None:
    """A variable may use docker distribution's names of health checks, such as FileCheckers."""
    found = config_folder.settings(**variables)

    assert len(getattr(found.health, section)) == 1
    assert config_folder.warnings(**variables) == []


def test_events_are_set_by_the_name_of_docker_distribution(config_folder: ConfigFolder) -> None:
    """A variable may use docker distribution's name of `notifications.events`, EventConfig."""
    found = config_folder.settings(REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES="true")

    assert found.notifications.events.includereferences


def test_an_endpoint_is_set_key_by_key(config_folder: ConfigFolder) -> None:
    """Variables set an endpoint key by key; a number, a map or a list is YAML."""
    found = config_folder.settings(
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME="ci",
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL="https://ci.example/hook",
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS="{Authorization: [Bearer secret]}",
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_THRESHOLD="3",
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_IGNORE_ACTIONS="[pull]",
    )
    (endpoint,) = found.notifications.endpoints

    assert (endpoint.name, endpoint.threshold) == ("ci", 3)
    assert endpoint.headers == (("Authorization", "Bearer secret"),)
    assert endpoint.actions == ("pull",)


def test_a_list_may_have_more_than_ten_entries(config_folder: ConfigFolder) -> None:
    """Entries of a list in variables are ordered by number, so that 2 comes before 10."""
    variables = {}
    for number in range(12):
        variables[f"REGISTRY_NOTIFICATIONS_ENDPOINTS_{number}_NAME"] = f"n{number}"
        variables[f"REGISTRY_NOTIFICATIONS_ENDPOINTS_{number}_URL"] = "https://ci.example/hook"
    found = config_folder.settings(**variables).notifications.endpoints

    assert [each.name for each in found] == [f"n{number}" for number in range(12)]


def test_what_may_be_pushed_is_set_entry_by_entry(config_folder: ConfigFolder) -> None:
    """Variables with an index set single entries of a list of patterns or platforms."""
    config_folder.write("validation: {manifests: {urls: {allow: ['^https://a', '^https://b']}}}")
    found = config_folder.settings(
        REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_1="^https?://[c-e], x",
        REGISTRY_VALIDATION_MANIFESTS_URLS_DENY_0="^http:",
        REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS="list",
        REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS="linux",
        REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_ARCHITECTURE="amd64",
        REGISTRY_POLICY_REPOSITORY_CLASSES_0="image",
    )

    assert found.validation.manifests.urls.allow == ("^https://a", "^https?://[c-e], x")
    assert found.validation.manifests.urls.deny == ("^http:",)
    assert [str(each) for each in found.validation.manifests.indexes.platformlist] == [
        "linux/amd64"
    ]
    assert found.policy.repository.classes == ("image",)


def test_algorithms_are_set_entry_by_entry(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """Variables with an index set single entries of `signingalgorithms`."""
    keys = tmp_path / "keys.json"
    keys.write_bytes(signer("ES256").jwks())
    found = config_folder.settings(
        REGISTRY_AUTH_TOKEN_REALM="https://auth.example/token",
        REGISTRY_AUTH_TOKEN_SERVICE="registry",
        REGISTRY_AUTH_TOKEN_ISSUER="auth",
        REGISTRY_AUTH_TOKEN_JWKS=str(keys),
        REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS_0="RS256",
        REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS_1="ES256",
    )

    assert found.auth.token is not None
    assert found.auth.token.signingalgorithms == ("RS256", "ES256")


@pytest.mark.parametrize("name", ["URLS_ALLOW_2", "INDEXES_PLATFORMLIST_1_OS"])
def test_an_index_after_the_next_entry_is_a_problem(config_folder: ConfigFolder, name: str) -> None:
    """A variable whose index is beyond the next entry is a problem, as in docker distribution."""
    (problem,) = config_folder.problems(**{f"REGISTRY_VALIDATION_MANIFESTS_{name}": "a"})

    assert "not the index of an entry" in problem
