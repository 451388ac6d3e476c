"""Tests that the kernel terminates a program whose parent process has died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.appliance.haproxy import ROOT, eventually

PARENT = """
import subprocess, sys, time
program = "entrepot.appliance.supervise.parent_death_signal"
child = subprocess.Popen([sys.executable, "-m", program, "sleep", "60"])
open(sys.argv[1], "w").write(str(child.pid))
child.wait()
"""


def test_a_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The kernel terminates a program whose parent was killed.

    Otherwise no process would stop this program.
    """
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(note)], cwd=ROOT)
    eventually(lambda: note.exists() and note.read_text())
    child = Path("/proc") / note.read_text()
    eventually(lambda: (child / "comm").read_text() == "sleep\n")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    eventually(lambda: not _lives(child))


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
