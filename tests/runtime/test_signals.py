"""Tests of `Signals`, which returns each received signal once, even if a wait is interrupted."""

from __future__ import annotations

import os
import signal

from tests.processes import next_line, running

_WAIT = """
import os, signal, sys, time
from entrepot.runtime.signals import Signals
signals = Signals({signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})
os.write(1, b"ready\\n")
"""

_WAITS = f"""{_WAIT}
while True:
    began = time.monotonic()
    found = signals.wait(0.002)
    if found:
        print(*(each.name for each in found), flush=True)
        if signal.SIGTERM in found:
            sys.exit(0)
    elif time.monotonic() - began < 0.002:
        print("woke too early", flush=True)
"""

_FORKS = f"""{_WAIT}
if os.fork() == 0:
    signals.close()
    again = Signals({{signal.SIGTERM, signal.SIGHUP}})
    os.kill(os.getpid(), signal.SIGHUP)
    print("child", *(each.name for each in again.wait(10)), flush=True)
    os._exit(0)
os.wait()
print("parent", *(each.name for each in signals.wait(10)), flush=True)
"""


def test_a_stop_at_any_moment_of_a_wait_returns_no_signal() -> None:
    """If a process is suspended and continued during a wait, the wait returns no signal.

    Python's `sigtimedwait` returns uninitialised memory if SIGCONT arrives after the deadline.
    """
    with running(_WAITS) as process:
        assert next_line(process) == "ready"
        for _ in range(60):
            process.send_signal(signal.SIGSTOP)
            _until_stopped(process.pid)
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGSTOP)
        _until_stopped(process.pid)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGCONT)
        first = next_line(process)
        process.send_signal(signal.SIGTERM)
        printed = [first, *iter(lambda: next_line(process), "")]

        assert printed == ["SIGHUP", "SIGTERM"]
        assert process.wait(timeout=10) == 0


def test_a_signal_received_before_the_wait_is_returned() -> None:
    """If a signal arrives before the wait, the wait returns it."""
    with running(_WAIT + "os.kill(os.getpid(), 1)\nprint(*signals.wait(0))\n") as process:
        assert next_line(process) == "ready"
        assert next_line(process) == str(int(signal.SIGHUP))


def test_a_forked_process_receives_its_own_signals() -> None:
    """A forked process gets only the signals that are sent to it, not those of its parent."""
    with running(_FORKS) as process:
        printed = list(iter(lambda: next_line(process), ""))

    assert printed == ["ready", "child SIGHUP", "parent SIGCHLD"]


def _until_stopped(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


_WOKEN = f"""{_WAIT}
import threading
threading.Timer(0.05, signals.wake).start()
print(signals.wait(1000), flush=True)
signals.wake()
print(signals.wait(1000), flush=True)
print(signals.wait(0), flush=True)
"""


def test_another_thread_can_end_a_wait() -> None:
    """`wake` ends the wait of another thread, and this wait returns no signal.

    If no thread is waiting, the next wait returns at once.
    """
    with running(_WOKEN) as process:
        assert [next_line(process) for _ in range(4)] == ["ready", "[]", "[]", "[]"]
