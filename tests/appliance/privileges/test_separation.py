"""Root's process and the one that serves: signals, exit codes, what becomes of the one without."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.appliance.front import eventually
from tests.processes import next_line, running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

PROGRAM = """
import os, signal, sys
from entrepot.appliance.privileges import separation
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError, Problem

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # whole, beside another process

def told():
    say("serves", os.getpid(), os.getuid(), os.getsid(0) == os.getpid())

def until_told():
    told()
    caught = signal.sigwait({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    say("caught", caught.name)
    return 0

def fails():
    return 1

def refuses():
    raise ConfigError([Problem("a", "is bad", "make it good")])

def breaks():
    raise RuntimeError("never seen before")

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

looks = iter(range(10**9))
sys.stderr = sys.stdout
user = User("somebody", 12345, 23456, "/")
sys.exit(separation.run(user, globals()[sys.argv[1]], lambda: say("looks", next(looks))))
"""


def _said(process: subprocess.Popen[str], word: str) -> str:
    """Return the next line that begins with a word."""
    while line := next_line(process):
        if line.startswith(word):
            return line
    raise AssertionError(f"it ended and never said {word}")


def test_he_who_serves_is_another_and_leads_a_session() -> None:
    """So a terminal's Ctrl-C reaches him once, from root."""
    with running(PROGRAM, "until_told") as process:
        _, pid, uid, leads = _said(process, "serves").split()

        assert (int(uid), leads) == (12345, "True")
        assert int(pid) != process.pid
        assert Path(f"/proc/{process.pid}").stat().st_uid == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_wish_to_stop_is_passed_on(number: signal.Signals) -> None:
    """And root ends when he has, with his code."""
    with running(PROGRAM, "until_told") as process:
        _said(process, "serves")
        process.send_signal(number)

        assert _said(process, "caught") == f"caught {number.name}"
        assert process.wait(timeout=10) == 0


def test_files_are_looked_at_while_he_serves() -> None:
    """Again and again, whatever he does."""
    with running(PROGRAM, "until_told") as process:
        assert _said(process, "looks") == "looks 0"
        assert _said(process, "looks") == "looks 1"


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("fails", 1, ""),
        ("refuses", 2, "a: is bad; make it good"),
        ("breaks", 1, "RuntimeError: never seen before"),
        ("dies", 1, ""),
    ],
)
def test_his_end_is_root_s_end(what: str, code: int, line: str) -> None:
    """Bad input is one line; what nobody foresaw is told and does not go on as root."""
    with running(PROGRAM, what) as process:
        said, _ = process.communicate(timeout=10)

        assert process.returncode == code
        assert line in said
        assert (line == "") or said.count(line) == 1


def test_killed_root_takes_him_along() -> None:
    """Outside a container too: nothing serves that nobody can stop."""
    with running(PROGRAM, "until_told") as process:
        child = Path("/proc") / _said(process, "serves").split()[1]
        assert child.exists()
        process.kill()
        process.wait()

        eventually(lambda: not _lives(child))


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
