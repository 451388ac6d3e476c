"""Test the main loop of `serve`: the modules that it loads, and locks that survive an exec."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from entrepot.appliance.held_run import HeldRunDirectory

pytestmark = pytest.mark.slow

_IMPORTS = """
import sys
import entrepot.appliance.main_loop, entrepot.appliance.privileges.first_process
print(*(each for each in sys.modules if each.startswith(("entrepot.config", "yaml", "pydantic"))))
"""
# The program executes itself, and then releases the run directory whose locks it holds.
_EXECUTED = """
import fcntl, os, sys
from pathlib import Path
from entrepot.appliance import rundir
from entrepot.appliance.held_run import HeldRunDirectory
state = Path(sys.argv[1])
if len(sys.argv) == 2:
    held = rundir.hold_new(state)
    held.keep_at_exec(is_kept=True)
    locks = (held.run_lock, held.state_lock, held.note_lock)
    words = [sys.executable, sys.argv[0], str(state), str(held.path), *map(str, locks)]
    os.execv(sys.executable, words)
run, locks = Path(sys.argv[2]), list(map(int, sys.argv[3:]))
try:
    rundir.hold_new(state)
except rundir.ConfigError as error:
    print("refused")
held = HeldRunDirectory(run, locks[0], locks[1], state / "run", locks[2])
held.release()
print(run.exists(), (state / "run").exists())
rundir.hold_new(state).release()
"""


def _output(code: str) -> list[str]:
    """Return the lines that a program prints; its argument is a folder for temporary files."""
    # The path of a run directory may have at most 79 bytes; a folder of pytest is longer.
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        return _run(Path(folder), code)


def _run(folder: Path, code: str) -> list[str]:
    program = folder / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_main_loop_loads_no_module_of_the_configuration() -> None:
    """The main loop does not load the configuration's modules, which would use 18 MB of memory."""
    assert _output(_IMPORTS) == [""]


def test_the_run_directory_stays_locked_when_a_program_is_executed() -> None:
    """If `serve` executes another program, no second appliance can start on the data directory.

    The executed program can release and remove the run directory.
    """
    assert _output(_EXECUTED) == ["refused", "False False"]


def test_a_run_directory_without_a_note_is_released(tmp_path: Path) -> None:
    """A run directory is removed even if its path could not be written to the file `run`."""
    run = tmp_path / "run-directory"
    run.mkdir()
    run_lock, state_lock = (os.open(each, os.O_RDONLY) for each in (run, tmp_path))

    HeldRunDirectory(run, run_lock, state_lock, tmp_path / "run", -1).release()

    assert not run.exists()
