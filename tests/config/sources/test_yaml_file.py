"""Test where the configuration file is found, and how faults in it are reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from entrepot.config.loader import examine, load
from entrepot.config.schema import Settings
from tests.config.config_folder import ConfigFolder

# This is the configuration file in the image of registry:2.
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


def test_the_stock_file_of_registry_2_is_valid(config_folder: ConfigFolder) -> None:
    """The stock file of registry:2 causes no problem.

    It causes one warning for each key without effect.
    """
    config_folder.write(STOCK)

    settings = config_folder.settings()
    assert Path("/var/lib/registry") == settings.storage.rootdirectory
    assert str(settings.http.addr) == ":5000"
    assert settings.http.headers == {"X-Content-Type-Options": ("nosniff",)}
    keys = [
        each.partition(": ")[2].partition(": without effect: ")[0]
        for each in config_folder.warnings()
    ]
    assert keys == ["storage.cache.blobdescriptor"]
    assert settings.log.fields == {"service": "registry"}
    assert settings.health.storagedriver.enabled


def test_the_file_is_named_by_position_flag_or_variable(config_folder: ConfigFolder) -> None:
    """The configuration file is named by position, by flag or by variable.

    The forms are `serve FILE`, `--config FILE`, `--config=FILE` and REGISTRY_CONFIGURATION_PATH.
    """
    config_folder.write("log: {level: debug}")
    path = str(config_folder.file)
    ways: list[tuple[list[str], Mapping[str, str]]] = [
        ([path], {}),
        (["--config", path], {}),
        ([f"--config={path}"], {}),
        ([], {"REGISTRY_CONFIGURATION_PATH": path}),
    ]

    levels = [
        load(argv, environ, config_folder.places).settings.log.level for argv, environ in ways
    ]
    assert levels == ["debug"] * 4


def test_a_file_on_the_command_line_overrides_the_variable(config_folder: ConfigFolder) -> None:
    """A configuration file on the command line takes precedence over the one in the variable."""
    config_folder.write("log: {level: debug}")

    assert config_folder.settings(REGISTRY_CONFIGURATION_PATH="/none").log.level == "debug"


def test_two_files_are_a_problem(config_folder: ConfigFolder) -> None:
    """Two configuration files on the command line are a problem."""
    config_folder.write("")

    assert config_folder.problems("other.yml") == [
        "other.yml: a second configuration file; name one"
    ]


def test_the_usual_place_is_read_in_the_image_only(config_folder: ConfigFolder) -> None:
    """A file in the usual place is read in the image only.

    Outside the image, a file in the usual place may belong to Debian's docker-registry.
    """
    config_folder.places.file.write_text("log: {level: debug}", encoding="utf-8")

    assert config_folder.settings().log.level == "info"
    assert [each.partition(";")[0] for each in config_folder.warnings()] == [
        "etc.yml: the file is not read outside the image"
    ]
    assert config_folder.settings(ENTREPOT_IMAGE="1").log.level == "debug"
    assert config_folder.warnings(ENTREPOT_IMAGE="1") == []


def test_the_image_reads_the_file_of_registry_3(config_folder: ConfigFolder) -> None:
    """The image reads the configuration file of registry:3.

    The file's password and proxy settings apply, so that the appliance is not open to all.
    """
    config_folder.places.newer_file.write_text(
        "auth: {htpasswd: {realm: r, path: /h}}\nproxy: {remoteurl: 'https://a.io'}",
        encoding="utf-8",
    )

    settings = config_folder.settings(ENTREPOT_IMAGE="1")
    assert settings.auth.htpasswd is not None
    assert settings.proxy.remoteurl == "https://a.io"
    assert config_folder.warnings(ENTREPOT_IMAGE="1") == []
    (warning,) = config_folder.warnings()
    assert warning.startswith(
        "newer.yml: the file is not read outside the image; name the file to use it: serve "
    )


def test_of_two_usual_files_the_newer_one_is_read(config_folder: ConfigFolder) -> None:
    """If both usual paths have a file, the file at the path of registry:3 is read.

    A warning names the file that is not read, because that file may contain the passwords.
    """
    config_folder.places.newer_file.write_text("log: {level: debug}", encoding="utf-8")
    config_folder.places.file.write_text("log: {level: error}", encoding="utf-8")

    assert config_folder.settings(ENTREPOT_IMAGE="1").log.level == "debug"
    assert config_folder.warnings(ENTREPOT_IMAGE="1") == [
        "etc.yml: the file is not read, because newer.yml exists too; keep one of the two files"
    ]
    config_folder.write("log: {level: warn}")
    assert config_folder.settings(ENTREPOT_IMAGE="1").log.level == "warn"
    assert config_folder.warnings(ENTREPOT_IMAGE="1") == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "config.yml:1: not YAML: "),
        (b"log:\n\tlevel: info", "config.yml:2: not YAML: "),
        (b"log:\n  level: a: b", "config.yml:2: not YAML: mapping values are not allowed here"),
        (b"log: \xff", "config.yml:1: not YAML: "),
        (b"log: \x01", "config.yml:1: not YAML: "),
        (b"log: {}\n---\nlog: {}", "config.yml:2: not YAML: "),
        (b"just text", "config.yml:1: one value instead of a map; "),
        (b"- a\n- b", "config.yml:1: one value instead of a map; "),
    ],
    ids=range(8),
)
def test_an_invalid_yaml_file_is_a_problem_of_one_line(
    config_folder: ConfigFolder, content: bytes, expected: str
) -> None:
    """An invalid YAML file causes a problem of one line with a line number, not a traceback."""
    config_folder.file.write_bytes(content)

    (problem,) = config_folder.problems()
    assert problem.startswith(expected)
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["none.yml", "."])
def test_an_unreadable_file_is_a_problem_of_one_line(
    config_folder: ConfigFolder, tmp_path: Path, name: str
) -> None:
    """A missing configuration file, or a folder in its place, causes a problem of one line.

    Docker creates a folder at the file's path if the source of a mount is missing.
    """
    path = tmp_path / name
    (problem,) = examine(
        [], {"REGISTRY_CONFIGURATION_PATH": str(path)}, config_folder.places
    ).problems

    assert f"REGISTRY_CONFIGURATION_PATH={path}" == problem.source
    assert problem.message in {"no such file or directory", "is a directory"}


@pytest.mark.parametrize("text", ["", "# nothing", "---", "~", "''", "!$", "log:", "upstreams: {}"])
def test_an_empty_file_changes_no_setting(config_folder: ConfigFolder, text: str) -> None:
    """An empty file, or an empty section, changes no setting."""
    config_folder.write(text)

    assert config_folder.examine(REGISTRY_HTTP_ADDR="127.0.0.1:1").settings == Settings.from_tree(
        {"http": {"addr": "127.0.0.1:1"}}
    )


def test_text_is_not_converted(config_folder: ConfigFolder) -> None:
    """A value in the YAML file stays the text that the operator wrote.

    YAML libraries convert 0123 to 83, yes to True, and 2024-01-01 to a date.
    """
    config_folder.write(
        """
        upstreams:
          a.io: {username: yes, password: 0123}
          b.io: {username: 2024-01-01, password: 1:30}
        """
    )
    found = config_folder.settings().upstreams

    assert [(each.username, each.password) for each in found.values()] == [
        ("yes", "0123"),
        ("2024-01-01", "1:30"),
    ]


def test_yaml_aliases_and_merges_work(config_folder: ConfigFolder) -> None:
    """YAML aliases and merges work; a key beside a merge takes precedence over a merged key."""
    config_folder.write(
        """
        upstreams:
          a.io: &usual {freshness: 5m, ongone: serve}
          b.io: {<<: *usual, freshness: 1m}
        """
    )
    found = config_folder.settings().upstreams["b.io"]

    assert (found.freshness, found.ongone) == (60.0, "serve")


def test_an_alias_that_contains_itself_is_a_problem(config_folder: ConfigFolder) -> None:
    """A YAML alias that contains itself has no finite value, and is a problem."""
    config_folder.write("log: {fields: &a {again: *a}}")

    assert config_folder.problems() == [
        "config.yml:1: an alias contains itself; write each value once, without aliases"
    ]


def test_a_duplicate_key_is_a_problem_with_both_lines(config_folder: ConfigFolder) -> None:
    """A duplicate key is a problem with both line numbers.

    YAML libraries silently use the last of two equal keys.
    """
    config_folder.write("cleaner:\n  ttl: 1d\n  ttl: 2d")

    assert config_folder.problems() == [
        "config.yml:3: cleaner.ttl: already set in line 2; compare config/example.yml"
    ]


def test_a_value_in_place_of_a_map_is_a_problem(config_folder: ConfigFolder) -> None:
    """A value in place of a map, or a map in place of a value, is a problem."""
    config_folder.write("http: 5000\ncleaner:\n  ttl: {days: 3}\nlog: [a]")

    assert config_folder.problems() == [
        "config.yml:1: http: one value instead of a map; compare config/example.yml",
        "config.yml:4: log: one value instead of a map; compare config/example.yml",
        "config.yml:3: cleaner.ttl={...}: not a span; try 1h30m, 30d or 60s",
    ]
