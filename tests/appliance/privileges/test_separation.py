"""Tests the processes of root and of the service user: signals, exit codes, and how both end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.appliance.haproxy import eventually
from tests.processes import next_line, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user"),
]

PROGRAM = """
import fcntl, os, signal, sys, termios
from entrepot.appliance.privileges import separation
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError, Problem

def write(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # one write: lines do not mix

def report_start():
    write("serves", os.getpid(), os.getuid(), os.getsid(0) == os.getpid())

def waits():
    for each in keyboard:
        os.close(each)
    report_start()
    caught = signal.sigwait({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    write("caught", caught.name)
    return 0

def fails():
    return 1

def refuses():
    raise ConfigError([Problem("a", "is bad", "make it good")])

def breaks():
    raise RuntimeError("never seen before")

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def look():
    write("looks", number := next(looks))
    if number == 1 and keyboard:
        os.close(keyboard[0])  # the terminal is closed

keyboard = []
if sys.argv[2:] == ["terminal"]:
    os.setsid()
    master, terminal = os.openpty()
    keyboard.append(master)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
looks = iter(range(10**9))
sys.stderr = sys.stdout
user = User("somebody", 12345, 23456, "/")
sys.exit(separation.run(user, globals()[sys.argv[1]], look))
"""


def _next_line(process: subprocess.Popen[str], word: str) -> str:
    """Return the next line of output that begins with *word*."""
    while line := next_line(process):
        if line.startswith(word):
            return line
    raise AssertionError(f"the process ended without the line {word}")


def test_the_serving_process_has_the_users_id_and_its_own_session() -> None:
    """The serving process has the service user's id and its own session.

    A terminal's Ctrl-C reaches the serving process only once, through root's process.
    """
    with running(PROGRAM, "waits") as process:
        _, pid, uid, leads = _next_line(process, "serves").split()

        assert (int(uid), leads) == (12345, "True")
        assert int(pid) != process.pid
        assert Path(f"/proc/{process.pid}").stat().st_uid == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_is_forwarded(number: signal.Signals) -> None:
    """Root's process forwards a signal, and exits after the child with the child's exit code."""
    with running(PROGRAM, "waits") as process:
        _next_line(process, "serves")
        process.send_signal(number)

        assert _next_line(process, "caught") == f"caught {number.name}"
        assert process.wait(timeout=10) == 0


def test_a_closed_terminal_stops_the_child() -> None:
    """When its terminal is closed, root's process sends SIGTERM to the child.

    The child has no terminal, so the kernel sends it no SIGHUP.
    """
    with running(PROGRAM, "waits", "terminal") as process:
        assert _next_line(process, "caught") == "caught SIGTERM"
        assert process.wait(timeout=10) == 0


def test_a_request_to_reload_is_not_forwarded() -> None:
    """Root's process does not forward SIGHUP, a request to reload, if no terminal was closed."""
    with running(PROGRAM, "waits") as process:
        _next_line(process, "serves")
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            _next_line(process, "looks")
        process.send_signal(signal.SIGTERM)

        assert _next_line(process, "caught") == "caught SIGTERM"


def test_files_are_checked_while_the_child_serves() -> None:
    """Root's process checks files at regular intervals while the child serves."""
    with running(PROGRAM, "waits") as process:
        assert _next_line(process, "looks") == "looks 0"
        assert _next_line(process, "looks") == "looks 1"


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("fails", 1, ""),
        ("refuses", 2, "a: is bad; make it good"),
        ("breaks", 1, "RuntimeError: never seen before"),
        ("dies", 1, ""),
    ],
)
def test_root_exits_with_the_childs_exit_code(what: str, code: int, line: str) -> None:
    """Root's process exits with the child's exit code; the child's error is printed once."""
    with running(PROGRAM, what) as process:
        output, _ = process.communicate(timeout=10)

        assert process.returncode == code
        assert line in output
        assert (line == "") or output.count(line) == 1


def test_the_child_ends_when_root_is_killed() -> None:
    """The serving process exits when root's process is killed: no other process could stop it."""
    with running(PROGRAM, "waits") as process:
        child = Path("/proc") / _next_line(process, "serves").split()[1]
        assert child.exists()
        process.kill()
        process.wait()

        eventually(lambda: not _lives(child))


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
