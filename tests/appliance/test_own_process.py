"""Tests `in_own_process`, which runs a function in a process of its own to free its memory."""

from __future__ import annotations

import os

import pytest

from entrepot.appliance.own_process import in_own_process
from entrepot.config.errors import ConfigError, Problem


def test_the_result_comes_from_another_process() -> None:
    """`in_own_process` returns the result of a function that has run in another process."""
    number, problems = in_own_process(lambda: (os.getpid(), [Problem("a", "b", "c")]))

    assert number != os.getpid()
    assert problems == [Problem("a", "b", "c")]


def test_a_configuration_error_is_raised_here() -> None:
    """A ConfigError of the function is raised in the caller, with all its problems."""
    found = ConfigError([Problem("a", "b"), Problem("c", "d", "e")])

    def fail() -> None:
        raise found

    with pytest.raises(ConfigError) as raised:
        in_own_process(fail)

    assert raised.value.problems == found.problems


def test_a_process_that_fails_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """If the other process fails, the caller raises an error; the traceback is on stderr."""

    def fail() -> None:
        raise ValueError("a defect")

    with pytest.raises(ChildProcessError):
        in_own_process(fail)
    with pytest.raises(ChildProcessError):
        in_own_process(lambda: os._exit(0))

    assert "a defect" in capfd.readouterr().err
