"""Test the settings of `health:`, with docker distribution's keys and defaults."""

from __future__ import annotations

import pytest

from entrepot.config.handover import dump, resolved
from entrepot.config.health import FileCheck, HttpCheck, TcpCheck
from entrepot.config.show import shown_settings
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

_FILE = """
    health:
      storagedriver: {enabled: true, interval: 5s, threshold: 3}
      file:
        - file: /run/down
          interval: 1s
      http:
        - uri: http://ann:secret@a.test/ok
          headers: {Authorization: [Basic abc], X-Key: b}
          statuscode: 204
          timeout: 3s
          threshold: 2
        - uri: https://b.test
      tcp:
        - addr: a.test:6379
          interval: 30s
    """
_HTTP = (
    HttpCheck(
        "http://ann:secret@a.test/ok",
        {"Authorization": ("Basic abc",), "X-Key": ("b",)},
        204,
        3.0,
        10.0,
        2,
    ),
    HttpCheck("https://b.test"),
)


def test_every_key_is_read(config_folder: ConfigFolder) -> None:
    """Every key of a health check is read; by default it runs every 10 s and expects status 200."""
    config_folder.write(_FILE)
    health = config_folder.settings().health

    assert (health.storagedriver.interval, health.storagedriver.threshold) == (5.0, 3)
    assert health.file == (FileCheck("/run/down", 1.0),)
    assert health.http == _HTTP
    assert health.tcp == (TcpCheck("a.test:6379", interval=30.0),)
    assert health.has_checks
    assert config_folder.warnings() == []


def test_the_settings_survive_the_handover_to_the_programs(config_folder: ConfigFolder) -> None:
    """The settings file that `dump` writes for the programs has the configured health checks."""
    config_folder.write(_FILE)
    settings = config_folder.settings()
    written = config_folder.file.parent / run_names.SETTINGS
    dump(settings, written)

    assert resolved({"ENTREPOT_SETTINGS": str(written)}).health == settings.health


def test_a_variable_is_yaml(config_folder: ConfigFolder) -> None:
    """A list of health checks in a variable is YAML."""
    found = config_folder.settings(REGISTRY_HEALTH_FILE="[{file: /run/down}]").health.file

    assert found == (FileCheck("/run/down"),)


def test_an_empty_interval_is_the_default(config_folder: ConfigFolder) -> None:
    """A health check with no interval, or with 0, runs every 10 s, as in docker distribution."""
    config_folder.write(
        "health: {storagedriver: {interval: 0s}, tcp: [{addr: 'a:1', interval: ''}]}"
    )
    health = config_folder.settings().health

    assert health.storagedriver.interval == health.tcp[0].interval == 10.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file: [{interval: 1s}]", "check 0: file is not set"),
        ("file: /run/down", "not a list of checks"),
        ("file: [/run/down]", "check 0: not a map"),
        (
            "file: [{file: /a, interval: 1ms}]",
            "a check with an interval below 100ms costs too much",
        ),
        ("http: [{uri: ftp://a}]", "uri is not a URL that begins with http:// or https://"),
        ("http: [{uri: 'http://a/ b'}]", "uri has a character that a URL must escape"),
        ("http: [{uri: http://a, statuscode: 99}]", "not a whole number from 100 to 599"),
        ("http: [{uri: http://a, headers: {Host: [b]}}]", "not a header that a check can send"),
        ('http: [{uri: http://a, headers: {A: ["b\\nC: d"]}}]', "is not one line of ASCII text"),
        ("http: [{uri: http://a, timeout: 2m}]", "a timeout above 60s is too long"),
        ("http: [{uri: http://a, threshold: -1}]", "not a whole number from 0 to 1000"),
        ("tcp: [{addr: a.test}]", "addr is not HOST:PORT"),
        ("tcp: [{addr: 'a.test:0'}]", "not a whole number from 1 to 65535"),
        (f"file: [{'{file: /a}, ' * 33}]", "more than 32 checks"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(
    config_folder: ConfigFolder, text: str, reason: str
) -> None:
    """A wrong value of a health check causes one line, which names the check and the fault."""
    config_folder.write(f"health: {{{text}}}")
    (problem,) = config_folder.problems()

    assert reason in problem
    assert problem.startswith(f"config.yml:1: health.{text.partition(':')[0]}=")


def test_a_key_without_an_effect_is_a_warning(config_folder: ConfigFolder) -> None:
    """An unknown key of a health check causes a warning. A file check has no key `threshold`."""
    config_folder.write(
        "health: {file: [{file: /a, threshold: 3}], tcp: [{addr: 'a:1', treshold: 3}]}"
    )

    assert config_folder.warnings() == [
        "config.yml:1: health.file: a check has no key threshold; take it out",
        "config.yml:1: health.tcp: a check has no key treshold; did you mean threshold?",
    ]


def test_no_output_shows_a_password_or_a_query(config_folder: ConfigFolder) -> None:
    """No output shows header values of a health check, or the password or query of a URI."""
    config_folder.write(_FILE)

    shown = dict(shown_settings(config_folder.settings()))["health", "http"]
    assert "http://***@a.test/ok" in shown
    assert "secret" not in shown
    assert "abc" not in shown
    config_folder.write("health: {http: [{uri: 'http://a.test/ok?token=secret&x=a@b#secret'}]}")
    assert (
        "http://a.test/ok?*** " in dict(shown_settings(config_folder.settings()))["health", "http"]
    )
    config_folder.write("health: {http: [{uri: 'http://ann:secret@a.test:0/'}]}")
    assert "secret" not in "".join(config_folder.problems())
