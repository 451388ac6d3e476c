"""Tests the program that root's process executes while the service user serves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.appliance.haproxy import eventually
from tests.processes import next_line, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a group away"),
]

_PROGRAM = """
import os, signal, sys, tempfile
from pathlib import Path
from entrepot.appliance.privileges import first_process, secret_copies
from entrepot.appliance.privileges.first_process import FirstProcess
from entrepot.appliance.privileges.user import User
from entrepot.appliance.serve_plan import LogPlan
from entrepot.appliance.supervise.stop_signals import StopSignals

originals, tempfile.tempdir = list(map(Path, sys.argv[2:])), sys.argv[1]
user = User("somebody", 12345, 23456, "/")
with secret_copies.create(originals, user) as copied:
    signals = StopSignals()
    child = os.fork()
    if child == 0:
        os.write(1, f"serves {os.getppid()}\\n".encode())
        signal.sigwait({signal.SIGTERM})
        os._exit(3)
    log = LogPlan("info", "text", {}, False, ())
    plan = FirstProcess(
        child, user, tuple(originals), copied.folder, copied.lock, log, signals.had_terminal
    )
    first_process.execute(plan, ["--flag"])
"""


def test_root_copies_changed_files_and_removes_the_copies_at_the_end(tmp_path: Path) -> None:
    """Root's process copies a changed secret again, and removes the copies when the child exits.

    The process keeps its id, forwards SIGTERM, and exits with the child's exit code.
    """
    secret, temporary = tmp_path / "secret", tmp_path / "tmp"
    secret.write_text("old")
    temporary.mkdir()
    with running(_PROGRAM, temporary, secret) as process:
        assert next_line(process) == f"serves {process.pid}"
        (folder,) = temporary.iterdir()
        copy = folder.joinpath(*secret.parts[1:])
        eventually(lambda: "first_process" in Path(f"/proc/{process.pid}/cmdline").read_text())
        assert copy.read_text() == "old"
        secret.write_text("new")
        eventually(lambda: copy.read_text() == "new")

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=10) == 3
    assert list(temporary.iterdir()) == []


def test_without_secret_files_root_only_forwards_signals(tmp_path: Path) -> None:
    """Without a secret file, root's process still forwards signals, and exits after the child."""
    with running(_PROGRAM, tmp_path) as process:
        assert next_line(process) == f"serves {process.pid}"
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=10) == 3
    assert list(tmp_path.iterdir()) == []
