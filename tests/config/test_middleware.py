"""The settings of `middleware:` are read and checked."""

from __future__ import annotations

import pytest

from entrepot import config
from entrepot.config import handover
from entrepot.config.sources.environment import SETTINGS
from entrepot.runtime import run_names
from tests.config.desk import Desk

_LIST = "[{name: gate, options: {password: hunter2, list: [a, {b: c}]}}, {name: b, disabled: true}]"


def test_a_list_of_middleware_has_names_and_options(desk: Desk) -> None:
    """A list of middleware keeps names and options, without disabled entries.

    `check` shows no option.
    """
    desk.write(f"middleware: {{repository: {_LIST}}}")
    settings = desk.settings()

    (gate,) = settings.middleware.repository
    assert gate.as_pair == ("gate", {"password": "hunter2", "list": ["a", {"b": "c"}]})
    assert dict(config.shown_settings(settings))["middleware", "repository"] == "gate"
    assert "hunter2" not in repr(settings)


def test_the_workers_get_the_same_middleware(desk: Desk) -> None:
    """The workers read the same middleware options from the settings file that `serve` writes."""
    desk.write(f"middleware: {{registry: {_LIST}}}")
    path = desk.file.parent / run_names.SETTINGS
    handover.dump(desk.settings(), path)

    assert handover.resolved({SETTINGS: str(path)}).middleware == desk.settings().middleware


def test_a_variable_sets_one_key_of_an_entry(desk: Desk) -> None:
    """A variable sets one key of a middleware entry by its index, as in docker distribution."""
    settings = desk.settings(
        REGISTRY_MIDDLEWARE_REPOSITORY_0_NAME="gate",
        REGISTRY_MIDDLEWARE_REPOSITORY_0_OPTIONS_LIMIT="5",
    )

    assert [each.as_pair for each in settings.middleware.repository] == [("gate", {"limit": "5"})]


def test_an_unknown_name_is_a_problem_that_lists_the_installed_names(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown middleware is one line with its name, the installed names, and the entry point."""
    monkeypatch.setattr("entrepot.runtime.entry_points.names", lambda _: ("gate", "stamp"))
    desk.write("middleware: {registry: [{name: stmap}]}")

    lines = [str(each) for each in config.check(desk.settings()) if "middleware" in each.source]

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
def test_a_wrong_entry_is_a_problem(desk: Desk, text: str) -> None:
    """A wrong middleware entry is a problem, because a misspelt protection must not be ignored."""
    desk.write(f"middleware: {{{text}}}")

    (problem,) = desk.problems()
    assert "; " in problem
