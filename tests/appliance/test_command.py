"""Test the help and the version of the `entrepot` command, and bad input."""

from __future__ import annotations

import pytest

from entrepot.appliance.__main__ import COMMANDS, main
from entrepot.appliance.registry_command import translated


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
    """For bad input `entrepot` prints one line with a remedy on stderr, and exits with 2."""
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_call_without_arguments_prints_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot` without arguments prints help on stderr and exits with 2."""
    assert main([]) == 2
    assert "entrepot serve" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`entrepot --version`, `entrepot version` and `registry -v` print the package's version."""
    assert main(["--version"]) == 0
    first = capsys.readouterr().out
    assert main(["version"]) == 0
    assert first == capsys.readouterr().out
    assert first.startswith("entrepot 0.")
    assert main(["registry", "-v"]) == 0
    assert first == capsys.readouterr().out


def test_the_help_of_a_command_describes_that_command_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`entrepot gc --help` prints the usage of `gc`; the help of `serve` has every setting."""
    assert main(["gc", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: entrepot gc [--dry-run]")
    assert "entrepot serve" not in text
    assert main(["help", "serve"]) == 0
    assert "--cleaner.maxsize=10G" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["/etc/docker/registry/config.yml"], ["serve", "/etc/docker/registry/config.yml"]),
        (["config.yaml", "--log.level=debug"], ["serve", "config.yaml", "--log.level=debug"]),
        (["registry", "serve", "/c.yml"], ["serve", "/c.yml"]),
        (["/bin/registry", "serve", "/c.yml"], ["serve", "/c.yml"]),
        (["/entrypoint.sh", "/c.yml"], ["serve", "/c.yml"]),
        (["registry", "garbage-collect", "-m", "c.yml"], ["garbage-collect", "-m", "c.yml"]),
        (["serve", "c.yml"], ["serve", "c.yml"]),
        (["registry"], []),
        ([], []),
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_the_command_line_of_the_registry_image_is_understood(
    theirs: list[str], ours: list[str]
) -> None:
    """`entrepot` accepts the arguments that compose files give to docker distribution's image."""
    assert translated(theirs) == ours


def test_garbage_collect_exits_with_1_for_bad_input_as_in_distribution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For bad input `registry garbage-collect` exits with 1, as scripts expect, and `gc` with 2."""
    assert main(["registry", "garbage-collect", "/none/config.yml"]) == 1
    assert main(["gc", "/none/config.yml"]) == 2
    assert "no such file" in capsys.readouterr().err
