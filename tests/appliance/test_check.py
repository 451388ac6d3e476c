"""Test `entrepot check`, which shows all settings with their sources, and all problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.appliance.check import as_json, main, report
from entrepot.config import keys
from entrepot.config.distribution import ROWS
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from tests.config.config_folder import ConfigFolder
from tests.disk_storage import disk_storage


@pytest.fixture
def config_folder(tmp_path: Path) -> ConfigFolder:
    """Return an empty folder for a configuration file."""
    return ConfigFolder(tmp_path)


def _words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_every_setting_is_shown_with_its_value_and_its_source(config_folder: ConfigFolder) -> None:
    """`check` shows every setting with its source, and its value with a unit, such as 2G or 3d."""
    config_folder.write("cleaner: {maxsize: 2048M}")
    lines = _words(report(config_folder.examine("--cleaner.ttl=72h", ENTREPOT_ONGONE="serve")))

    assert ["cleaner.maxsize", "2G", f"{config_folder.file}:1"] in lines
    assert ["cleaner.ttl", "3d", "--cleaner.ttl"] in lines
    assert ["proxy.ongone", "serve", "ENTREPOT_ONGONE"] in lines
    assert ["cleaner.threshold", "20%", "default"] in lines
    named = {line[0] for line in lines if line}
    assert {each.key for each in keys.settings().values() if "*" not in each.key} <= named


def test_an_upstream_is_shown_with_inherited_settings(config_folder: ConfigFolder) -> None:
    """`check` shows an upstream with inherited settings and the sources of those settings."""
    lines = _words(
        report(config_folder.examine("--upstreams.quay.io.freshness=5m", ENTREPOT_ONGONE="serve"))
    )

    assert ["upstreams.quay.io.freshness", "5m", "--upstreams.quay.io.freshness"] in lines
    assert ["upstreams.quay.io.ongone", "serve", "ENTREPOT_ONGONE"] in lines
    assert ["upstreams.quay.io.readtimeout", "30s", "default"] in lines
    assert ["upstreams.quay.io.url", "https://quay.io", "default"] in lines


def test_a_report_without_upstreams_shows_none(config_folder: ConfigFolder) -> None:
    """`check` shows the setting of a disabled upstream, but does not list the upstream."""
    text = report(config_folder.examine("--upstreams.quay.io.enabled=false"))

    listed = text.partition("Upstreams\n")[2].partition("\n\n")[0]
    assert "ghcr.io" in listed
    assert "quay.io" not in listed
    assert ["upstreams.quay.io.enabled", "false", "--upstreams.quay.io.enabled"] in _words(text)
    none = report(config_folder.examine(ENTREPOT_PUBLIC_UPSTREAMS="false"))
    assert none.partition("Upstreams\n")[2].partition("\n\n")[0] == "  none"


def test_json_has_the_same_as_the_report(config_folder: ConfigFolder) -> None:
    """`check --json` prints an object for every setting, upstream, key, warning and problem."""
    config_folder.write("storage: {gcs: {bucket: b}}\nredis: {addr: 'a:1', password: hunter2}\n")
    loaded = config_folder.examine("--cleaner.ttl=72h")
    document = json.loads(as_json(loaded))

    assert {"key": "cleaner.ttl", "value": "3d", "source": "--cleaner.ttl"} in document["settings"]
    assert document["upstreams"][0] == {
        "host": "docker.io",
        "url": "https://registry-1.docker.io",
        "login": "anonymous",
    }
    named = {each["key"]: each for each in document["distribution"]}
    assert len(named) == len(ROWS)
    assert (named["redis.**"]["verdict"], named["redis.**"]["sources"]) == (
        "without effect",
        [f"{config_folder.file}:2"],
    )
    assert named["storage.gcs.**"]["verdict"] == "refused"
    assert named["storage.gcs.**"]["remedy"]
    assert {"source": f"{config_folder.file}:1: storage.gcs"}.items() <= document["problems"][
        0
    ].items()
    assert next(each["source"] for each in document["warnings"]) == f"{config_folder.file}:2: redis"
    assert "hunter" not in as_json(loaded)


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot check --json` prints one JSON object, and exits with 2 for bad input."""
    file = tmp_path / "config.yml"
    file.write_text("storage: {s3: {bucket: b}}", encoding="utf-8")

    assert main([str(file), "--json"], {}) == 2
    assert json.loads(capsys.readouterr().out)["file"] == str(file)


def test_a_key_that_is_set_is_shown_with_its_remedy(config_folder: ConfigFolder) -> None:
    """For a key without effect `check` shows the file and line that set it, and a remedy."""
    config_folder.write("proxy: {cachewritetimeout: 1m}")
    lines = report(config_folder.examine()).splitlines()
    (line,) = [each for each in lines if " proxy.cachewritetimeout " in each]

    assert f"set by {config_folder.file}:1; " in line


def test_no_secret_is_shown(config_folder: ConfigFolder) -> None:
    """`check` shows no secret, whether its value is valid or invalid."""
    config_folder.write(
        "upstreams: {a.io: {username: me, password: hunter2}}\nredis: {password: hunter2}"
    )
    text = report(
        config_folder.examine(
            REGISTRY_PROXY_REMOTEURL="a.io",
            REGISTRY_PROXY_USERNAME="me",
            REGISTRY_PROXY_PASSWORD="hunter2",
            REGISTRY_HTTP_SECRET="hunter2",
        )
    )

    assert "hunter" not in text
    assert ["proxy.password", "***", "REGISTRY_PROXY_PASSWORD"] in _words(text)
    assert ["upstreams.a.io.password", "***", f"{config_folder.file}:1"] in _words(text)


def test_every_key_of_distribution_is_shown_with_its_verdict(config_folder: ConfigFolder) -> None:
    """`check` shows every key of docker distribution with its verdict.

    For a key that is set, it also shows which file or variable sets the key.
    """
    config_folder.write("redis: {addr: a}")
    lines = report(config_folder.examine()).splitlines()

    for row in ROWS:
        assert any(line.split()[:1] == [row.key] and row.verdict.value in line for line in lines)
    (redis,) = [line for line in lines if line.startswith("  redis.**")]
    assert redis.endswith(f"without redis; set by {config_folder.file}:1; take it out")


def test_headers_and_lists_are_shown_on_one_short_line(config_folder: ConfigFolder) -> None:
    """`check` shows many headers on one short line, so that the table fits on a screen."""
    names = [f"X-Header-{number}" for number in range(9)]
    config_folder.write(
        f"http: {{headers: {{{', '.join(f'{each}: [a]' for each in names)}}},"
        " tls: {certificate: /c.pem, clientcas: [/a.pem, /b.pem]}}"
    )
    lines = report(config_folder.examine()).splitlines()

    (headers,) = [line for line in lines if line.startswith("  http.headers ") and "X-" in line]
    assert "X-Header-0, X-Header-1" in headers
    assert "... (9)" in headers
    assert any(line.split()[:3] == ["http.tls.clientcas", "/a.pem", "/b.pem"] for line in lines)


def test_warnings_and_problems_come_last_with_their_remedies(config_folder: ConfigFolder) -> None:
    """`check` prints warnings and problems last, where the operator sees them without scrolling."""
    text = report(config_folder.examine(CLEANER_MAXSIZE="10X", CLEANER_MAXSZE="1G"))

    assert text.endswith(
        "Warnings\n  CLEANER_MAXSZE: no such setting; did you mean CLEANER_MAXSIZE?\n"
        "\nProblems\n  CLEANER_MAXSIZE=10X: not a size; try 10G\n"
    )


def test_upstreams_are_shown_with_their_logins(config_folder: ConfigFolder) -> None:
    """`check` shows upstreams with their logins, including upstreams of the pull secret."""
    config_folder.places.secret.write_text(
        '{"auths": {"quay.io": {}, "*.azurecr.io": {}, "a.io": {}}}', encoding="utf-8"
    )
    config_folder.write("upstreams: {a.io: {username: me, password: p, default: true}}")
    text = report(config_folder.examine())
    section = text.partition("Upstreams\n")[2].partition("\n\n")[0]

    assert _words(section) == [
        ["a.io", "https://a.io", "as", "me,", "the", "default"],
        ["quay.io", "https://quay.io", "login", "from", "the", "pull", "secret"],
        ["*.azurecr.io", "from", "the", "pull", "secret"],
    ]


def test_check_exits_with_2_for_bad_input(
    config_folder: ConfigFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`check` exits with 2 for problems of settings or files, and with 0 otherwise."""
    data = f"--storage.filesystem.rootdirectory={tmp_path}"
    config_folder.write("log: {level: debug}")

    assert main([str(config_folder.file), data], {}) == 0
    assert "Problems\n  none\n" in capsys.readouterr().out
    assert main([str(config_folder.file), data], {"CLEANER_MAXSIZE": "10X"}) == 2
    assert main([str(config_folder.file), data], {"REGISTRY_AUTH_HTPASSWD_PATH": "/none"}) == 2
    assert "auth.htpasswd.path=/none: no such file" in capsys.readouterr().out


def test_a_pushed_repository_that_an_upstream_would_hide_is_a_problem(
    config_folder: ConfigFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pushed repository whose name begins with an upstream's host is a problem.

    The upstream would hide the repository, so `serve` would not start. The pull secret of this test
    names no registry, so that the public upstreams are in force.
    """
    Repositories(disk_storage(tmp_path)).link_blob(Repository("quay.io/team/app"), Digest.of(b""))
    config_folder.places.secret.write_text(
        '{"auths": {}, "credsStore": "desktop"}', encoding="utf-8"
    )
    data = f"--storage.filesystem.rootdirectory={tmp_path}"

    assert main([data, f"--pullsecret.path={config_folder.places.secret}"], {}) == 2
    assert "quay.io/team/app: was pushed" in capsys.readouterr().out
