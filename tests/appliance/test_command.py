"""The `entrepot` command."""

from __future__ import annotations

import pytest

from entrepot.appliance.__main__ import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked for, so it goes to stdout and all is well."""
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert [name for name in COMMANDS if f"entrepot {name}" not in told] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sevre"], "did you mean serve?"),
        (["xyzzy"], "try one of serve, check"),
        (["clean"], "give --once or --dry-run"),
        (["serve", "--cleaner.maxsize=10X"], "10X"),
        (["status", "--cleaner.maxzise=1G"], "cleaner.maxsize"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_2(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do about it, and without a traceback."""
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert told in said[0]


def test_nothing_at_all_is_answered_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, for nothing was done."""
    assert main([]) == 2
    assert "entrepot serve" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot --version` and `entrepot version` are the same."""
    assert main(["--version"]) == 0
    first = capsys.readouterr().out
    assert main(["version"]) == 0
    assert first == capsys.readouterr().out
    assert first.startswith("entrepot 0.")
