"""Test `StateProcess`, which starts the process that writes the state, on request only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from entrepot.appliance.supervise.state_process import StateProcess
from entrepot.runtime.run_names import STATE, STATE_REQUEST
from tests.appliance.haproxy import eventually

# This stand-in for the program writes a state, and ends when the file `end` exists.
_PROGRAM = """
import sys, time, pathlib
run = pathlib.Path(sys.argv[1])
with (run / "starts").open("a") as starts:
    starts.write(".")
(run / "state.json").write_text("{}")
while not (run / "end").exists():
    time.sleep(0.01)
"""


@pytest.fixture
def state(tmp_path: Path) -> StateProcess:
    """Return the state process of a run directory, with a stand-in for the program."""
    return StateProcess(tmp_path, [sys.executable, "-I", "-S", "-c", _PROGRAM])


def _starts(run: Path) -> int:
    return len((run / "starts").read_text()) if (run / "starts").exists() else 0


def _request(run: Path, nanoseconds: int) -> None:
    os.utime(run / STATE_REQUEST, ns=(nanoseconds, nanoseconds))


def test_without_a_request_no_process_is_started(tmp_path: Path, state: StateProcess) -> None:
    """Without a request for the state, `look` starts no process."""
    for _ in range(3):
        state.look()
    state.close()

    assert _starts(tmp_path) == 0


def test_a_request_starts_one_process(tmp_path: Path, state: StateProcess) -> None:
    """While a process writes the state, further requests start no second process.

    A request after the end of the process starts another process, if no state was written after
    that request.
    """
    later = (tmp_path / STATE_REQUEST).stat().st_mtime_ns + 10**12
    _request(tmp_path, later)
    state.look()
    eventually((tmp_path / STATE).exists)
    _request(tmp_path, later + 1)
    state.look()
    assert _starts(tmp_path) == 1

    (tmp_path / "end").touch()
    eventually(lambda: not state.is_running)
    state.look()
    eventually(lambda: _starts(tmp_path) == 2)
    eventually(lambda: not state.is_running)
    os.utime(tmp_path / STATE, ns=(later + 3, later + 3))
    _request(tmp_path, later + 2)
    state.look()
    assert not state.is_running
    state.close()


def test_close_ends_the_process(tmp_path: Path, state: StateProcess) -> None:
    """After `close`, no process writes into the run directory, which can then be removed."""
    _request(tmp_path, (tmp_path / STATE_REQUEST).stat().st_mtime_ns + 1)
    state.look()
    assert state.is_running

    state.close()

    assert not state.is_running
