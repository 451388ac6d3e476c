"""The YAML file: how it is named, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loader import examine, load
from config.schema import Settings
from tests.config.desk import Desk

# What the image of registry:2 carries.
STOCK = """
    version: 0.1
    log:
      fields:
        service: registry
    storage:
      cache:
        blobdescriptor: inmemory
      filesystem:
        rootdirectory: /var/lib/registry
    http:
      addr: :5000
      headers:
        X-Content-Type-Options: [nosniff]
    health:
      storagedriver:
        enabled: true
        interval: 10s
        threshold: 3
"""


def test_the_stock_file_of_registry_2_starts(desk: Desk) -> None:
    """With no problem, and one warning for each key that has no effect."""
    desk.write(STOCK)

    settings = desk.settings()
    assert Path("/var/lib/registry") == settings.storage.rootdirectory
    assert str(settings.http.addr) == ":5000"
    told = [each.partition(": ")[2].partition(": without effect: ")[0] for each in desk.warnings()]
    assert told == [
        "log.fields",
        "storage.cache.blobdescriptor",
        "http.headers",
        "health.storagedriver.enabled",
        "health.storagedriver.interval",
        "health.storagedriver.threshold",
    ]


def test_the_file_is_named_by_position_flag_or_variable(desk: Desk) -> None:
    """`serve FILE`, `--config FILE`, `--config=FILE`, REGISTRY_CONFIGURATION_PATH."""
    desk.write("log: {level: debug}")
    path = str(desk.file)
    ways: list[tuple[list[str], Mapping[str, str]]] = [
        ([path], {}),
        (["--config", path], {}),
        ([f"--config={path}"], {}),
        ([], {"REGISTRY_CONFIGURATION_PATH": path}),
    ]

    levels = [load(argv, environ, desk.places).settings.log.level for argv, environ in ways]
    assert levels == ["debug"] * 4


def test_a_named_file_goes_before_the_variable(desk: Desk) -> None:
    """Flags over environment."""
    desk.write("log: {level: debug}")

    assert desk.settings(REGISTRY_CONFIGURATION_PATH="/none").log.level == "debug"


def test_two_files_are_one_too_many(desk: Desk) -> None:
    """Which one counts would be a guess."""
    desk.write("")

    assert desk.problems("other.yml") == ["other.yml: a second configuration file; name one"]


def test_the_usual_place_is_read_in_the_image_only(desk: Desk) -> None:
    """Debian's docker-registry owns it, with a htpasswd that is a folder; a warning tells."""
    desk.places.file.write_text("log: {level: debug}", encoding="utf-8")

    assert desk.settings().log.level == "info"
    assert [each.partition(";")[0] for each in desk.warnings()] == [
        "etc.yml: not read outside the image"
    ]
    assert desk.settings(ENTREPOT_IMAGE="1").log.level == "debug"
    assert desk.warnings(ENTREPOT_IMAGE="1") == []


def test_the_image_reads_what_registry_3_reads(desk: Desk) -> None:
    """Its passwords and its proxy hold: the appliance does not start open."""
    desk.places.newer_file.write_text(
        "auth: {htpasswd: {realm: r, path: /h}}\nproxy: {remoteurl: 'https://a.io'}",
        encoding="utf-8",
    )

    settings = desk.settings(ENTREPOT_IMAGE="1")
    assert settings.auth.htpasswd is not None
    assert settings.proxy.remoteurl == "https://a.io"
    assert desk.warnings(ENTREPOT_IMAGE="1") == []
    (warning,) = desk.warnings()
    assert warning.startswith("newer.yml: not read outside the image; name it to use it: serve ")


def test_of_two_usual_files_the_newer_one_counts(desk: Desk) -> None:
    """And a warning names the other, which may hold passwords."""
    desk.places.newer_file.write_text("log: {level: debug}", encoding="utf-8")
    desk.places.file.write_text("log: {level: error}", encoding="utf-8")

    assert desk.settings(ENTREPOT_IMAGE="1").log.level == "debug"
    assert desk.warnings(ENTREPOT_IMAGE="1") == [
        "etc.yml: not read, for newer.yml is there too; keep one of them"
    ]
    desk.write("log: {level: warn}")
    assert desk.settings(ENTREPOT_IMAGE="1").log.level == "warn"
    assert desk.warnings(ENTREPOT_IMAGE="1") == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "config.yml:1: not YAML: "),
        (b"log:\n\tlevel: info", "config.yml:2: not YAML: "),
        (b"log:\n  level: a: b", "config.yml:2: not YAML: mapping values are not allowed here"),
        (b"log: \xff", "config.yml:1: not YAML: "),
        (b"log: \x01", "config.yml:1: not YAML: "),
        (b"log: {}\n---\nlog: {}", "config.yml:2: not YAML: "),
        (b"just text", "config.yml:1: one value where a map is meant; "),
        (b"- a\n- b", "config.yml:1: one value where a map is meant; "),
    ],
    ids=range(8),
)
def test_a_file_that_is_no_yaml_is_one_line(desk: Desk, content: bytes, expected: str) -> None:
    """With the line, and never a traceback."""
    desk.file.write_bytes(content)

    (problem,) = desk.problems()
    assert problem.startswith(expected)
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["none.yml", "."])
def test_a_file_that_cannot_be_read_is_one_line(desk: Desk, tmp_path: Path, name: str) -> None:
    """Absent, or a folder: what Docker makes of an absent file that it shall mount."""
    path = tmp_path / name
    (problem,) = examine([], {"REGISTRY_CONFIGURATION_PATH": str(path)}, desk.places).problems

    assert f"REGISTRY_CONFIGURATION_PATH={path}" == problem.source
    assert problem.message in {"no such file or directory", "is a directory"}


@pytest.mark.parametrize("text", ["", "# nothing", "---", "~", "''", "!$", "log:", "upstreams: {}"])
def test_an_empty_file_says_nothing(desk: Desk, text: str) -> None:
    """Nor does an empty section."""
    desk.write(text)

    assert desk.examine(REGISTRY_HTTP_ADDR="127.0.0.1:1").settings == Settings.model_validate(
        {"http": {"addr": "127.0.0.1:1"}}
    )


def test_text_is_taken_as_it_is_written(desk: Desk) -> None:
    """YAML makes 83 of 0123, True of yes, and a date of 2024-01-01."""
    desk.write(
        """
        upstreams:
          a.io: {username: yes, password: 0123}
          b.io: {username: 2024-01-01, password: 1:30}
        """
    )
    found = desk.settings().upstreams

    assert [(each.username, each.password) for each in found.values()] == [
        ("yes", "0123"),
        ("2024-01-01", "1:30"),
    ]


def test_aliases_and_merges_are_understood(desk: Desk) -> None:
    """What is said beside a merge wins over it."""
    desk.write(
        """
        upstreams:
          a.io: &usual {freshness: 5m, ongone: serve}
          b.io: {<<: *usual, freshness: 1m}
        """
    )
    found = desk.settings().upstreams["b.io"]

    assert (found.freshness, found.ongone) == (60.0, "serve")


def test_what_holds_itself_is_read_once(desk: Desk) -> None:
    """An alias may lead back to where it stands."""
    desk.write("log: {fields: &a {again: *a}}\nupstreams: &b {a.io: {mirrors: [*b]}}")

    assert len(desk.problems()) == 1


def test_a_key_said_twice_is_told_with_both_lines(desk: Desk) -> None:
    """YAML's own readers take the last in silence."""
    desk.write("cleaner:\n  ttl: 1d\n  ttl: 2d")

    assert desk.problems() == [
        "config.yml:3: cleaner.ttl: said before, in line 2; compare config/example.yml"
    ]


def test_one_value_where_a_map_is_meant_is_told(desk: Desk) -> None:
    """And a map where one value is meant."""
    desk.write("http: 5000\ncleaner:\n  ttl: {days: 3}\nlog: [a]")

    assert desk.problems() == [
        "config.yml:1: http: one value where a map is meant; compare config/example.yml",
        "config.yml:4: log: one value where a map is meant; compare config/example.yml",
        "config.yml:3: cleaner.ttl={...}: not a span; try 1h30m, 30d or 60s",
    ]
