"""Test that an error about an invalid value names the source of the value and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.config.errors import ConfigError
from entrepot.config.loader import load
from tests.config.config_folder import ConfigFolder


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CLEANER_MAXSIZE", "10X", "not a size; try 10G"),
        ("CLEANER_TTL", "soon", "not a span; try 1h30m, 30d or 60s"),
        ("CLEANER_THRESHOLD_PERCENTAGE", "200", "not a percentage from 0 to 100; try 20%"),
        ("CLEANER_RUNEVERY_TIME", "0", "a span of 0 is too short here; try 30s"),
        ("CLEANER_HOSTED", "maybe", "neither true nor false; try true"),
        ("ENTREPOT_WORKERS", "0", "not a whole number from 1 to 16; try 2"),
        ("ENTREPOT_ONGONE", "keep", "not one of refuse, serve; try refuse"),
        ("REGISTRY_HTTP_ADDR", "5000", "not host:port; try :5000 or 127.0.0.1:5000"),
        (
            "REGISTRY_LOG_LEVEL",
            "warning",
            "the level is not one of info, error, warn, debug; try warn",
        ),
        ("REGISTRY_LOG_FORMATTER", "jason", "not one of text, json, logstash; try json"),
        ("REGISTRY_VERSION", "0.2", "not one of 0.1; try 0.1"),
        (
            "ENTREPOT_DEFAULT_UPSTREAM",
            "a b",
            "not a registry's host; try quay.io or registry.example:5000",
        ),
        (
            "REGISTRY_PROXY_REMOTEURL",
            "ftp://a.io",
            "not a registry's URL; try https://registry.example",
        ),
        ("REGISTRY_AUTH_ANONYMOUS", "pul", "not one of none, pull; try pull"),
    ],
)
def test_an_invalid_value_is_a_problem_with_source_and_remedy(
    config_folder: ConfigFolder, name: str, value: str, expected: str
) -> None:
    """An invalid value is a problem such as `CLEANER_MAXSIZE=10X: not a size; try 10G`."""
    assert [f"{name}={value}: {expected}"] == config_folder.problems(**{name: value})


def test_each_source_is_named_as_it_was_written(config_folder: ConfigFolder) -> None:
    """A problem names the source of a value as written: a variable, a flag, or a file's line."""
    config_folder.write("cleaner:\n  maxsize: 10X\n")

    tail = "10X: not a size; try 10G"
    assert [f"config.yml:2: cleaner.maxsize={tail}"] == config_folder.problems()
    assert [f"CLEANER_MAXSIZE={tail}"] == config_folder.problems(CLEANER_MAXSIZE="10X")
    assert [f"--cleaner.maxsize={tail}"] == config_folder.problems("--cleaner.maxsize", "10X")


def test_all_problems_are_reported_at_once(config_folder: ConfigFolder) -> None:
    """All problems of a configuration are reported at once, so one start shows each mistake."""
    config_folder.write("cleaner: {maxsize: 10X, ttl: x, foo: 1}\nstorage: {s3: {bucket: b}}")

    with pytest.raises(ConfigError) as caught:
        load(["--bar=1", str(config_folder.file)], {"ENTREPOT_WORKERS": "99"}, config_folder.places)

    assert len(caught.value.problems) == 6
    assert len(str(caught.value).splitlines()) == 6


def test_an_invalid_value_does_not_affect_other_settings(config_folder: ConfigFolder) -> None:
    """An invalid value does not affect other settings, which `entrepot check` still shows."""
    loaded = config_folder.examine(CLEANER_MAXSIZE="10X", CLEANER_TTL="1h", REGISTRYDIR="")

    assert (loaded.settings.cleaner.maxsize, loaded.settings.cleaner.ttl) == (10 * 2**30, 3600.0)
    assert loaded.origin(("cleaner", "maxsize")) == "default"


def test_a_secret_is_never_shown(config_folder: ConfigFolder) -> None:
    """No message shows a secret in an invalid value, a refused key or a URL."""
    config_folder.write("storage: {s3: {bucket: b, secretkey: hunter2}}")
    problems = config_folder.problems(
        "--upstreams.a.io.password=hunter\n2",
        REGISTRY_PROXY_PASSWORD="hunter\n2",
        REGISTRY_PROXY_REMOTEURL="https://me:hunter2@a.io",
    )

    assert len(problems) == 5
    assert "hunter" not in "".join(problems)
    assert "REGISTRY_PROXY_REMOTEURL=https://***@a.io: a URL that contains a password" in "".join(
        problems
    )


def test_a_value_is_shown_on_one_line_and_shortened(config_folder: ConfigFolder) -> None:
    """A value in a message is one short line; control characters are replaced."""
    (problem,) = config_folder.problems(CLEANER_MAXSIZE="1\n\x1b[31m" + "9" * 500)

    assert problem.isprintable()
    assert len(problem) < 120


@pytest.mark.parametrize(
    "name", ["CLEANER_MAXSIZE", "REGISTRY_HTTP_ADDR", "REGISTRY_LOG", "REGISTRYDIR"]
)
def test_an_empty_variable_is_like_an_absent_one(config_folder: ConfigFolder, name: str) -> None:
    """An empty variable of a setting that must have a value is ignored.

    `${VARIABLE:-}` in a compose file makes variables empty.
    """
    assert config_folder.settings() == config_folder.settings(**{name: ""})


def test_an_empty_variable_switches_an_optional_setting_off(config_folder: ConfigFolder) -> None:
    """An empty variable switches an optional setting off.

    The setting is off even if the configuration file has a value, or a file exists at a usual path.
    """
    config_folder.places.secret.write_text("{}", encoding="utf-8")
    config_folder.write("proxy: {default: quay.io, maxstale: 1d}")
    settings = config_folder.settings(
        PULLSECRETPATH="",
        IGNOREREGISTRYLIST="",
        ENTREPOT_DEFAULT_UPSTREAM="",
        ENTREPOT_MAXSTALE="none",
    )

    assert (settings.pullsecret.path, settings.pullsecret.ignore) == (None, ())
    assert (settings.proxy.default, settings.proxy.maxstale) == (None, None)


def test_two_names_of_one_setting_that_disagree_are_a_warning(config_folder: ConfigFolder) -> None:
    """If two variables of a setting differ, the short name takes precedence, with a warning."""
    both = {"REGISTRYDIR": "/a", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/b"}

    assert Path("/a") == config_folder.settings(**both).storage.rootdirectory
    (warning,) = config_folder.warnings(**both)
    assert (
        "_ROOTDIRECTORY: REGISTRYDIR has another value and takes precedence; take one out"
        in warning
    )
    assert config_folder.warnings(**dict.fromkeys(both, "/a")) == []


def test_values_in_the_environment_are_not_parsed_as_yaml(config_folder: ConfigFolder) -> None:
    """A variable of one value is not parsed as YAML: `[::1]:5000` and `%x: [` are valid."""
    settings = config_folder.settings(
        REGISTRY_HTTP_ADDR="[::1]:5000",
        REGISTRY_PROXY_REMOTEURL="https://a.io",
        REGISTRY_PROXY_USERNAME="me",
        REGISTRY_PROXY_PASSWORD="%x: [ '",
        REGISTRY_HTTP_SECRET="{[",
    )

    assert (settings.http.addr.host, settings.proxy.password) == ("::1", "%x: [ '")


def test_a_section_in_the_environment_that_is_no_yaml_is_one_line(
    config_folder: ConfigFolder,
) -> None:
    """If a section in a variable is not YAML, the problem is one line with the variable's name."""
    (problem,) = config_folder.problems(REGISTRY_UPSTREAMS="{quay.io: [")

    assert problem.startswith("REGISTRY_UPSTREAMS: not YAML: ")
