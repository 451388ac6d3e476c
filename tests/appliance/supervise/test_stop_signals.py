"""Tests which signals stop the appliance, and which must not stop it."""

from __future__ import annotations

import signal

import pytest

from tests.processes import next_line, run, running

WAITS = """
import logging, sys
from entrepot.appliance.supervise.stop_signals import StopSignals

logging.basicConfig(stream=sys.stdout, format="%(message)s %(signal)s", level=logging.INFO)
signals = StopSignals()
print("ready")
while not (found := signals.wait(60)):
    pass
print("stopped by", *(each.name for each in found))
"""

IN_A_TERMINAL = """
import fcntl, os, signal, sys, termios
from entrepot.appliance.supervise.stop_signals import StopSignals

os.setsid()
keyboard, terminal = os.openpty()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
signals = StopSignals()
os.kill(os.getpid(), signal.SIGHUP)
before = signals.wait(10)
os.close(keyboard)  # the kernel sends SIGHUP to the leader of the session
after = signals.wait(10)
print([each.name for each in before], [each.name for each in after])
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_other_daemons_handle_does_not_stop_the_appliance(
    number: signal.Signals,
) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 cause a log line, and do not stop the appliance.

    No signal is needed to reload files, because the appliance notices changed files.
    """
    with running(WAITS) as process:
        assert next_line(process) == "ready"
        process.send_signal(number)
        assert next_line(process) == f"signal ignored {number.name}"
        process.send_signal(signal.SIGTERM)
        assert next_line(process) == "stopped by SIGTERM"


@pytest.mark.parametrize(("start", "printed"), [("shell", "['SIGHUP']"), ("nohup", "[]")])
def test_a_closed_terminal_stops_the_appliance(start: str, printed: str) -> None:
    """SIGHUP stops an appliance whose terminal was closed, unless nohup started the appliance.

    While the terminal is open, SIGHUP is a request to reload files, and is ignored.
    """
    assert run(IN_A_TERMINAL, start).strip() == f"[] {printed}"
