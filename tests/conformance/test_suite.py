"""Tests how `make conformance` finds, builds and configures the suite."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conformance import suite
from tests.conformance.errors import SuiteError

ROOT = Path(__file__).resolve().parents[2]


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _checkout(folder: Path, *, main: bool) -> Path:
    source = folder / "conformance"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module conformance\n")
    (source / ("main.go" if main else "push_test.go")).write_text("package main\n")
    return folder


def _go(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    _program(folder / "bin" / "go", text)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_make_without_a_suite_names_the_variable() -> None:
    """`make conformance` without a suite names the variable SUITE."""
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "conformance"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert done.stdout.rstrip().endswith("-m tests.conformance")
    with pytest.raises(SuiteError, match=r"make conformance SUITE="):
        suite.find("", Path("built"))


def test_an_executable_is_taken_as_it_is(tmp_path: Path) -> None:
    """An executable of the suite is used where it is, because it may need files beside it."""
    named = _program(tmp_path / "suite", "exit 0")

    assert suite.find(str(named), tmp_path / "built") == named


@pytest.mark.parametrize("below", [".", "conformance"])
@pytest.mark.parametrize(("main", "words"), [(True, "build -o"), (False, "test -c -o")])
def test_a_checkout_of_either_kind_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, words: str, *, main: bool
) -> None:
    """A checkout of either suite is built, from its root or its folder `conformance`."""
    built = tmp_path / "built"
    _go(tmp_path, monkeypatch, f'echo "$PWD $*" >"{built}"')

    assert suite.find(str(_checkout(tmp_path / "spec", main=main) / below), built) == built
    assert built.read_text() == f"{tmp_path}/spec/conformance {words} {built} .\n"


def test_without_go_a_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Go a checkout is refused, and the message names the needed version."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SuiteError, match="needs Go"):
        suite.find(str(_checkout(tmp_path / "spec", main=True)), tmp_path / "built")


def test_a_build_that_fails_shows_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of a failed build is shown: it has the reason, such as a missing module."""
    _go(tmp_path, monkeypatch, "echo no such module >&2; exit 1")

    with pytest.raises(SuiteError, match="could not be built:\nno such module"):
        suite.find(str(_checkout(tmp_path / "spec", main=True)), tmp_path / "built")


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "there is no suite at"), ("text", "not executable"), (".", "is no checkout")],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """A path that is no suite is refused before an appliance is started."""
    (tmp_path / "text").write_text("")

    with pytest.raises(SuiteError, match=message):
        suite.find(str(tmp_path / name), tmp_path / "built")


def _environment(executable: Path, given: dict[str, str]) -> dict[str, str]:
    return suite.environment(executable, "127.0.0.1:5", "ann:a:b", Path("/results"), given)


def test_the_current_suite_gets_no_older_option(tmp_path: Path) -> None:
    """The current conformance suite gets no option that only the older one has.

    The current suite would read such an option as the list of its tests, and ignore the tests that
    the specification's version selects.
    """
    found = _environment(_program(tmp_path / "suite", "# OCI_CONFIGURATION"), {})

    assert found == {
        "OCI_REGISTRY": "127.0.0.1:5",
        "OCI_TLS": "disabled",
        "OCI_USERNAME": "ann",
        "OCI_PASSWORD": "a:b",
        "OCI_RESULTS_DIR": "/results",
    }


def test_the_older_suite_is_told_to_test_everything(tmp_path: Path) -> None:
    """The older suite gets options for each of its four parts, which it skips by default."""
    found = _environment(_program(tmp_path / "suite", ""), {})

    assert found["OCI_ROOT_URL"] == "http://127.0.0.1:5"
    assert found["OCI_REPORT_DIR"] == "/results"
    tests = ("PULL", "PUSH", "CONTENT_DISCOVERY", "CONTENT_MANAGEMENT")
    assert all(found[f"OCI_TEST_{each}"] == "1" for each in tests)


@pytest.mark.parametrize("mark", ["", "# OCI_CONFIGURATION"])
def test_options_are_the_users_and_the_address_is_not(tmp_path: Path, mark: str) -> None:
    """A user's variables may set options of the suite, but not the address of the tested registry.

    Otherwise a variable that the user forgot could direct the suite at another registry.
    """
    given = {
        "OCI_VERSION": "1.0",
        "OCI_TEST_PUSH": "0",
        "OCI_USERNAME": "other",
        "OCI_REGISTRY": "registry.example",
        "OCI_ROOT_URL": "https://registry.example",
        "SECRET": "x",
    }
    found = _environment(_program(tmp_path / "suite", mark), given)

    assert found["OCI_VERSION"] == "1.0"
    assert found["OCI_TEST_PUSH"] == "0"
    assert found["OCI_USERNAME"] == "ann"
    assert "SECRET" not in found
    address = "OCI_REGISTRY" if mark else "OCI_ROOT_URL"
    assert found[address].endswith("127.0.0.1:5")


def test_a_suite_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    """A suite that cannot be started, such as one for another machine, is an error."""
    broken = tmp_path / "suite"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)

    with pytest.raises(SuiteError, match="cannot be run"):
        suite.run(broken, {}, tmp_path)
