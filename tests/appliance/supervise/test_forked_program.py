"""Tests that a forked program begins and exits like an executed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

import pytest

from tests.appliance.haproxy import ROOT, eventually

pytestmark = pytest.mark.slow

PARENT = """
import json, os, signal, sys, threading, atexit
from pathlib import Path
from entrepot.appliance.supervise import forked_program

def handle(*_):
    print("handled", "by the parent" if os.getpid() == parent else "by the program", flush=True)

parent = os.getpid()

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(number, handle)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

def main():
{main}

pid = forked_program.fork()
if pid == 0:
{before}
    argv = [sys.executable, "-m", "entrepot.some_program", "an argument"]
    forked_program.run(main, argv, {{"PATH": "/nowhere", "OTHER": "new"}})
os.write(1, b"%d\\n" % pid)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
"""

# each process writes a line with one call, so that lines are not mixed
SHOW = """
names = ("SIGTERM", "SIGINT", "SIGCHLD", "SIGUSR1", "SIGHUP", "SIGPIPE")
handlers = {name: str(signal.getsignal(getattr(signal, name))) for name in names}
os.write(1, json.dumps({
    "handlers": handlers,
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "environ": dict(os.environ),
    "argv": sys.argv,
    "shown": Path("/proc/self/cmdline").read_text().rstrip(chr(0)).split(chr(0)),
    "name": Path("/proc/self/comm").read_text().strip(),
}).encode() + b"\\n")
"""

EXITS: Mapping[str, tuple[str, int, str]] = {
    "no value": ("return None", 0, ""),
    "a number": ("return 3", 3, ""),
    "sys.exit with a number": ("sys.exit(4)", 4, ""),
    "sys.exit with a text": ("sys.exit('out of luck')", 1, "out of luck\n"),
    "an exception": ("raise ValueError('bad')", 1, "ValueError: bad\n"),
    "the exit functions": ("atexit.register(print, 'at the end', file=sys.stderr)", 0, "end\n"),
    "a thread that runs": (
        "threading.Timer(0.1, print, ['the thread ended'], {'file': sys.stderr}).start()",
        0,
        "the thread ended\n",
    ),
}


def run(main: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    """Run *main* in a program that is forked from a parent with signal handlers.

    Return the result of the parent, which exits with the program's exit code.
    """
    source = PARENT.format(main=indent(main, "    "), before=indent(before, "    "))
    return subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_forked_program_has_nothing_of_its_parent() -> None:
    """A forked program starts in the same state as an executed program.

    The test compares signal handlers, blocked signals, environment, arguments and command line.
    """
    ended = run(SHOW)
    seen = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("{")))

    assert seen == {
        "handlers": {
            "SIGTERM": "0",
            "SIGINT": "<built-in function default_int_handler>",
            "SIGCHLD": "0",
            "SIGUSR1": "0",
            "SIGHUP": "1",
            "SIGPIPE": "1",
        },
        "blocked": 0,
        "environ": {"PATH": "/nowhere", "OTHER": "new"},
        "argv": ["entrepot.some_program", "an argument"],
        "shown": [sys.executable, "-m", "entrepot.some_program", "an argument"],
        "name": "some_program",
    }


@pytest.mark.parametrize("case", EXITS)
def test_a_forked_program_exits_like_the_interpreter(case: str) -> None:
    """A forked program exits like an executed one: same code, message and exit functions."""
    main, code, printed = EXITS[case]
    ended = run(main)

    assert ended.returncode == code
    assert ended.stderr.endswith(printed)
    assert bool(ended.stderr) == bool(printed)


def test_a_signal_between_fork_and_program_is_not_lost() -> None:
    """A forked program gets a signal that is sent before the program starts.

    Until the program starts, all signals are blocked in the child. Otherwise the parent's handler
    would receive the signal in the child, and the signal would be lost.
    """
    ended = run("print('it ran')", before="os.kill(os.getpid(), signal.SIGTERM)")

    assert ended.returncode == -signal.SIGTERM & 0xFF
    assert "handled by the program" not in ended.stdout
    assert "it ran" not in ended.stdout


def test_a_parent_keeps_its_signals_after_a_fork() -> None:
    """After a fork the parent has the same blocked signals as before."""
    source = """
import signal
from entrepot.appliance.supervise import forked_program
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])
import os
pid = forked_program.fork() or os._exit(0)
os.waitpid(pid, 0)
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGUSR2}
"""
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_a_forked_program_ends_with_its_parent() -> None:
    """The kernel terminates a forked program whose parent was killed."""
    source = PARENT.format(main="    signal.pause()", before="    pass")
    parent = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().decode().strip()
    eventually(lambda: (child / "comm").read_text() == "some_program\n")
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()

    eventually(lambda: _has_ended(child))


def _has_ended(process: Path) -> bool:
    """Return True if the process with this folder in /proc has ended."""
    try:
        return "State:\tZ" in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
