"""Find, build and run the conformance suite of the OCI distribution-spec.

The suite is written in Go, in another project. Since 2026 it is a program (`go build`); the older
suite is a ginkgo test (`go test -c`). Both suites are configured by `OCI_*` variables and write
`junit.xml`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.errors import SuiteError

_SOURCES = ("conformance", ".")
_BUILD_WITHIN_S = 900.0
_RUN_WITHIN_S = 900.0
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")
_CURRENT_MARK = b"OCI_CONFIGURATION"
# Only the older suite gets these variables. In the current suite they would replace the tests that
# the specification's version selects.
_OLDER_OPTIONS = {
    "OCI_TEST_PULL": "1",
    "OCI_TEST_PUSH": "1",
    "OCI_TEST_CONTENT_DISCOVERY": "1",
    "OCI_TEST_CONTENT_MANAGEMENT": "1",
    "OCI_AUTOMATIC_CROSSMOUNT": "1",
    "OCI_HIDE_SKIPPED_WORKFLOWS": "0",
    "OCI_NAMESPACE": "conformance/repo1",
    "OCI_CROSSMOUNT_NAMESPACE": "conformance/repo2",
}
_LAST = 2000  # the last characters of the output of a failed build


def find(named: str, built: Path) -> Path:
    """Return the suite's executable; build it to *built* if *named* is a checkout.

    Raises: SuiteError when no suite is named, when *named* is neither an executable nor a checkout,
    or when the build fails.
    """
    if not named:
        raise SuiteError("name the suite: make conformance SUITE=<executable or checkout>")
    path = Path(named).expanduser().resolve()
    if path.is_dir():
        return _build(_source(path), built)
    if not path.is_file():
        raise SuiteError(f"there is no suite at {path}")
    if not os.access(path, os.X_OK):
        raise SuiteError(f"{path} is not executable; name a compiled suite or a checkout")
    return path


def environment(
    executable: Path, address: str, login: str, results: Path, given: Mapping[str, str]
) -> dict[str, str]:
    """Return the suite's environment; `OCI_*` variables of *given* choose versions and options.

    *address* is host:port, and *login* is user:password. *address*, *login* and *results* take
    precedence over the variables in *given*.
    """
    user, _, password = login.partition(":")
    kept = {name: given[name] for name in _PASSED_ON if name in given}
    chosen = {name: value for name, value in given.items() if name.startswith("OCI_")}
    ours = {"OCI_USERNAME": user, "OCI_PASSWORD": password}
    if _is_current(executable):
        ours |= {"OCI_REGISTRY": address, "OCI_TLS": "disabled", "OCI_RESULTS_DIR": str(results)}
        return kept | chosen | ours
    ours |= {"OCI_ROOT_URL": f"http://{address}", "OCI_REPORT_DIR": str(results)}
    return kept | _OLDER_OPTIONS | chosen | ours


def run(executable: Path, variables: Mapping[str, str], results: Path) -> int:
    """Run the suite, with its output in *results*/suite.log, and return its exit status.

    Raises: SuiteError when the suite cannot be started or does not end within 15 minutes.
    """
    with (results / "suite.log").open("wb") as log:
        try:
            done = subprocess.run(
                [executable],
                cwd=results,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_RUN_WITHIN_S,
                check=False,
            )
        except OSError as error:
            raise SuiteError(f"{executable} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise SuiteError(f"the suite did not end within {_RUN_WITHIN_S:.0f} s") from error
    return done.returncode


def _is_current(executable: Path) -> bool:
    """Return True if the suite is from 2026 or later; only such a suite has _CURRENT_MARK."""
    return _CURRENT_MARK in executable.read_bytes()


def _source(checkout: Path) -> Path:
    for name in _SOURCES:
        folder = checkout / name
        if (folder / "go.mod").is_file() and any(folder.glob("*.go")):
            return folder
    raise SuiteError(f"{checkout} is no checkout of the suite: it has no conformance/go.mod")


def _build(source: Path, built: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise SuiteError("building the suite needs Go 1.24 or later, and there is no `go` on PATH")
    kind = ["build"] if (source / "main.go").is_file() else ["test", "-c"]
    try:
        done = subprocess.run(
            [go, *kind, "-o", built, "."],
            cwd=source,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_BUILD_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"the build did not end within {_BUILD_WITHIN_S:.0f} s") from error
    if done.returncode != 0:
        raise SuiteError(f"the suite could not be built:\n{done.stdout[-_LAST:].strip()}")
    return built
