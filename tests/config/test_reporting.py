"""Test the settings of `reporting:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot import config
from entrepot.config import handover
from entrepot.config.sources.environment import SETTINGS
from entrepot.runtime import run_names
from entrepot.runtime.reporting import CLIENTS
from tests.config.config_folder import ConfigFolder

_ALL = """
reporting:
  bugsnag: {apikey: hunter2, releasestage: production, endpoint: 'https://b.example'}
  newrelic: {licensekey: hunter2, name: images, verbose: true}
  sentry: {dsn: 'https://hunter2@s.example/1', environment: production}
  opentelemetry: {endpoint: 'https://o.example', headers: {api-key: hunter2}}
"""


def test_no_tracker_is_configured_by_default(config_folder: ConfigFolder) -> None:
    """Without settings there is no tracker, and no library is needed."""
    assert config_folder.settings().reporting.active == {}
    assert not [
        each for each in config.check(config_folder.settings()) if "reporting" in each.source
    ]


def test_each_tracker_is_configured_by_its_key(config_folder: ConfigFolder) -> None:
    """Each tracker is active if its key is set; `check` shows neither keys nor the DSN."""
    config_folder.write(_ALL)
    settings = config_folder.settings()

    assert settings.reporting.active.keys() == CLIENTS.keys()
    assert settings.reporting.active["opentelemetry"]["headers"] == {"api-key": "hunter2"}
    shown = dict(config.shown_settings(settings))
    assert "hunter2" not in str(shown)
    assert shown["reporting", "sentry", "dsn"] == "***"
    assert "hunter2" not in repr(settings)


def test_the_settings_survive_the_handover_to_the_workers(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """The workers read the same trackers from the settings file that `serve` writes."""
    config_folder.write(_ALL)
    settings = config_folder.settings()

    handover.dump(settings, tmp_path / run_names.SETTINGS)
    read = handover.resolved({SETTINGS: str(tmp_path / run_names.SETTINGS)})
    assert read.reporting == settings.reporting


def test_a_missing_library_is_a_problem_with_its_extra(
    config_folder: ConfigFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing library of a tracker is a problem with the command that installs it."""
    monkeypatch.setattr("entrepot.runtime.reporting.is_installed", lambda name: name != "sentry")
    config_folder.write(_ALL)

    lines = [
        str(each) for each in config.check(config_folder.settings()) if "reporting" in each.source
    ]

    assert lines == [
        (
            "reporting.sentry: the Python library of the tracker is not installed; pip install"
            " 'entrepot[sentry]', or take it out"
        )
    ]


def test_a_library_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of a tracker is found on Python's import path without being imported."""
    from entrepot.runtime.reporting import is_installed  # noqa: PLC0415

    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert not is_installed("bugsnag")
    assert not is_installed("opentelemetry")

    (tmp_path / "bugsnag.py").write_text("raise SystemError", encoding="utf-8")
    monkeypatch.setattr("sys.path_importer_cache", {})
    assert is_installed("bugsnag")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sentry: {dsn: 'https://s.example/1'}", "reporting.sentry.dsn=***: not a DSN; copy it"),
        ("bugsnag: {endpoint: 'ftp://b'}", "not an http or https URL without a password"),
        ("opentelemetry: {headers: {'a b': c}}", "not a header of one line: a b"),
        ("newrelic: {verbose: loud}", "newrelic.verbose=loud: neither true nor false"),
    ],
)
def test_a_wrong_value_is_a_problem(config_folder: ConfigFolder, text: str, expected: str) -> None:
    """A wrong value of a tracker causes a line that names the key, and hides a possible secret."""
    config_folder.write(f"reporting: {{{text}}}")

    (problem,) = config_folder.problems()
    assert expected in problem


def test_a_tracker_without_its_key_is_a_warning(config_folder: ConfigFolder) -> None:
    """A section of a tracker without its key has no effect, and causes a warning."""
    config_folder.write("reporting: {bugsnag: {releasestage: production}}")

    assert config_folder.problems() == []
    assert config_folder.warnings() == [
        "reporting.bugsnag: the key has no effect: reporting.bugsnag.apikey is not set; set it too"
    ]
