"""Test the `entrepot` command: help, version, and bad input."""

from __future__ import annotations

import pytest

from entrepot.appliance.__main__ import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot --help` lists every command on stdout and exits with 0."""
    assert main(["--help"]) == 0
    expected = capsys.readouterr().out
    assert [name for name in COMMANDS if f"entrepot {name}" not in expected] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sevre"], "did you mean serve?"),
        (["xyzzy"], "try one of serve, check"),
        (["clean"], "give --once or --dry-run"),
        (["serve", "--cleaner.maxsize=10X"], "10X"),
        (["status", "--cleaner.maxzise=1G"], "cleaner.maxsize"),
    ],
)
def test_bad_input_prints_one_line_on_stderr_and_exits_with_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input prints one line with a remedy on stderr, no traceback, and exits with 2."""
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_call_without_arguments_prints_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot` without arguments prints help on stderr and exits with 2."""
    assert main([]) == 2
    assert "entrepot serve" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot --version` and `entrepot version` print the version of the package."""
    assert main(["--version"]) == 0
    first = capsys.readouterr().out
    assert main(["version"]) == 0
    assert first == capsys.readouterr().out
    assert first.startswith("entrepot 0.")
