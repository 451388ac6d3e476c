"""Tests that quotes around a variable's value, which compose and `--env-file` keep, are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.config.sources.environment import unquoted
from tests.config.config_folder import ConfigFolder


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"10G"', "10G"),
        ("'it''s'", "it's"),
        ('"a\\"b"', 'a"b'),
        ('"a\\tb"', "a\tb"),
        ("'a ' ", "a "),
        (' " a" ', " a"),
        ('""', ""),
        ("''", ""),
        ("abc ", "abc"),
        (" abc", "abc"),
        ("\tabc\t", "abc"),
        ("\"'a'\"", "'a'"),
        ('"a" # behind it', "a"),
    ],
)
def test_quotes_and_surrounding_space_are_removed(written: str, meant: str) -> None:
    """Quotes and surrounding space of a variable are removed, as in docker distribution 2.8.2."""
    assert unquoted(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "0123",
        "no",
        "yes",
        "true",
        "0x10",
        "1e3",
        "1_000",
        "1:30",
        "2024-01-01",
        "~",
        "null",
        "p #1",
        "#1",
        "%x: [",
        "[::1]:5000",
        "a: b",
        "!x",
        "&a",
        "*a",
        "'half",
        '"half',
        '"a" b',
        "it's",
        'a"b"',
        "a b",
        "",
        "\\",
    ],
)
def test_a_value_without_quotes_is_unchanged(written: str) -> None:
    """A variable without quotes keeps its text: no password becomes a number or a comment."""
    assert unquoted(written) == written


def test_every_kind_of_variable_may_be_quoted(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """Quotes are removed from every kind of variable.

    The variables of this test have a short name, a name derived from a key, or a name of
    docker-cache-server. Some contain a section, a list or a map.
    """
    settings = config_folder.settings(
        REGISTRY_AUTH='"htpasswd"',
        REGISTRY_AUTH_HTPASSWD_REALM='"My Realm"',
        REGISTRY_AUTH_HTPASSWD_PATH=f"'{tmp_path}/h'",
        REGISTRY_HTTP_ADDR="'127.0.0.1:5001'",
        REGISTRY_STORAGE_DELETE_ENABLED='"true"',
        REGISTRY_UPSTREAMS="'{quay.io: {freshness: 5m}}'",
        REGISTRY_HOSTED="""'{"ci/**": {ttl: 7d}}'""",
        CLEANER_MAXSIZE='"20G"',
        CLEANER_THRESHOLD_PERCENTAGE="'10'",
        IGNOREREGISTRYLIST='"a.io b.io"',
        REGISTRYDIR=f'"{tmp_path}/data"',
        ENTREPOT_FRESHNESS='"2m"',
        DCS_CACHE_CLEANUP_INTERVAL='"1h"',
    )

    assert settings.auth.htpasswd is not None
    assert (settings.auth.htpasswd.realm, settings.auth.htpasswd.path) == (
        "My Realm",
        tmp_path / "h",
    )
    assert str(settings.http.addr) == "127.0.0.1:5001"
    assert settings.storage.delete.enabled
    assert settings.upstreams["quay.io"].freshness == 300
    assert settings.hosted[0].repository == "ci/**"
    assert (settings.cleaner.maxsize, settings.cleaner.threshold) == (20 * 2**30, 10)
    assert settings.cleaner.runevery == 3600
    assert settings.pullsecret.ignore == ("a.io", "b.io")
    assert settings.storage.rootdirectory == tmp_path / "data"
    assert settings.proxy.freshness == 120


def test_the_file_may_be_named_in_quotes(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """The path in REGISTRY_CONFIGURATION_PATH may be in quotes."""
    (tmp_path / "other.yml").write_text("log: {level: debug}", encoding="utf-8")

    assert (
        config_folder.settings(REGISTRY_CONFIGURATION_PATH=f"'{tmp_path}/other.yml'").log.level
        == "debug"
    )


def test_an_empty_value_in_quotes_is_empty(config_folder: ConfigFolder) -> None:
    """An empty value in quotes counts as empty.

    An empty certificate means plain HTTP. An empty password file is an error.
    """
    config_folder.places.certs.mkdir()
    (config_folder.places.certs / "certs.pem").write_text("", encoding="utf-8")

    assert config_folder.settings(REGISTRY_HTTP_TLS_CERTIFICATE='""').http.tls.certificate is None
    (problem,) = config_folder.problems(
        REGISTRY_AUTH_HTPASSWD_PATH="''", REGISTRY_HTTP_TLS_CERTIFICATE=""
    )
    assert problem.startswith("REGISTRY_AUTH_HTPASSWD_PATH=: empty; ")
