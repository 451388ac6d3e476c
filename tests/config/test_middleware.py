"""Test the settings of `middleware:`."""

from __future__ import annotations

import pytest

from entrepot import config
from entrepot.config import handover
from entrepot.config.sources.environment import SETTINGS
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

_LIST = "[{name: gate, options: {password: hunter2, list: [a, {b: c}]}}, {name: b, disabled: true}]"


def test_a_list_of_middleware_has_names_and_options(config_folder: ConfigFolder) -> None:
    """The settings contain the names and options of middleware, without disabled entries.

    `check` shows no option.
    """
    config_folder.write(f"middleware: {{repository: {_LIST}}}")
    settings = config_folder.settings()

    (gate,) = settings.middleware.repository
    assert gate.as_pair == ("gate", {"password": "hunter2", "list": ["a", {"b": "c"}]})
    assert dict(config.shown_settings(settings))["middleware", "repository"] == "gate"
    assert "hunter2" not in repr(settings)


def test_the_workers_get_the_same_middleware(config_folder: ConfigFolder) -> None:
    """The workers read the same middleware options from the settings file that `serve` writes."""
    config_folder.write(f"middleware: {{registry: {_LIST}}}")
    path = config_folder.file.parent / run_names.SETTINGS
    handover.dump(config_folder.settings(), path)

    assert (
        handover.resolved({SETTINGS: str(path)}).middleware == config_folder.settings().middleware
    )


def test_a_variable_sets_one_key_of_an_entry(config_folder: ConfigFolder) -> None:
    """A variable with an entry's index sets one key of this entry, as in docker distribution."""
    settings = config_folder.settings(
        REGISTRY_MIDDLEWARE_REPOSITORY_0_NAME="gate",
        REGISTRY_MIDDLEWARE_REPOSITORY_0_OPTIONS_LIMIT="5",
    )

    assert [each.as_pair for each in settings.middleware.repository] == [("gate", {"limit": "5"})]


def test_an_unknown_name_is_a_problem_that_lists_the_installed_names(
    config_folder: ConfigFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown middleware causes one line with its name, the installed names and the group."""
    monkeypatch.setattr("entrepot.runtime.entry_points.names", lambda _: ("gate", "stamp"))
    config_folder.write("middleware: {registry: [{name: stmap}]}")

    lines = [
        str(each) for each in config.check(config_folder.settings()) if "middleware" in each.source
    ]

    assert lines == [
        (
            "middleware.registry: no package provides stmap; installed: gate, stamp; install a"
            " Python package with that entry point (entrepot.middleware.registry), or take it out"
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        "registry: [{nmae: a}]",
        "registry: [{options: {a: b}}]",
        "registry: [{name: a, options: [b]}]",
        "registry: [{name: a, disabled: maybe}]",
        "registry: a",
        "registery: [{name: a}]",
    ],
)
def test_a_wrong_entry_is_a_problem(config_folder: ConfigFolder, text: str) -> None:
    """A wrong middleware entry is a problem, because a misspelt protection must not be ignored."""
    config_folder.write(f"middleware: {{{text}}}")

    (problem,) = config_folder.problems()
    assert "; " in problem
