"""Tests of the names in the run directory, which one module defines and static files repeat."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from entrepot.config.value_types import MOST_WORKERS
from entrepot.runtime import run_names
from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("bench", *PACKAGES, "tests")
_CONSTANTS = {
    value for name, value in vars(run_names).items() if name.isupper() and isinstance(value, str)
} - {run_names.PREFIX, run_names.WORKER_SOCKETS}
_ALSO_SETTINGS = {
    run_names.PASSWORDS,
    run_names.CERTIFICATE,
    run_names.SIGNING_ROOTS,
    run_names.SIGNING_KEYS,
}
"""Names in the run directory that are also names of users' files or configuration sections."""
_SUPERVISOR_OWN = {"supervisord.out", "supervisord.pid"} | {
    f"{program}.out" for program in ("haproxy", "registry", "logger", "cleaner")
}
"""Files in the run directory that only `supervisord.conf` names."""


def _strings(path: Path) -> set[str]:
    """Return the string literals of a module, including the constant parts of f-strings.

    A module is parsed only if its text has one of the names in quotes.
    """
    text = path.read_text()
    if not any(f'"{name}"' in text or f"'{name}'" in text for name in _CONSTANTS):
        return set()
    return {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("package", _PACKAGES)
def test_no_module_repeats_a_name_of_the_run_directory(package: str) -> None:
    """Only run_names.py has the names of the run directory, because two copies could differ."""
    repeated = {
        f"{path.relative_to(_ROOT)}: {text}"
        for path in (_ROOT / package).rglob("*.py")
        if path.name != "run_names.py"
        for text in _strings(path) & (_CONSTANTS - _ALSO_SETTINGS)
    }

    assert repeated == set()


def test_the_static_files_use_the_defined_names() -> None:
    """haproxy.cfg and supervisord.conf use the names that the product defines for its sockets."""
    haproxy = re.findall(r"\$\{ENTREPOT_RUN\}/([\w.*]+)", (_ROOT / "haproxy.cfg").read_text())
    supervisor = re.findall(
        r"%\(ENV_ENTREPOT_RUN\)s/([\w.]+)", (_ROOT / "supervisord.conf").read_text()
    )
    numbers = range(1, MOST_WORKERS + 1)
    defined = (
        _CONSTANTS
        | {
            name(number)
            for name in (run_names.worker_socket, run_names.blob_socket)
            for number in numbers
        }
        | {run_names.error_file(status) for status in range(400, 600)}
    )

    assert set(haproxy) <= defined
    assert set(supervisor) <= defined | _SUPERVISOR_OWN
    assert {run_names.worker_socket(number) for number in numbers} <= set(haproxy)
