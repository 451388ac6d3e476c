"""Start, watch and stop supervisord and its programs, which run in a separate session."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from entrepot.appliance.supervise import log_pipe, programs, session
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.output import Output, Reader
from entrepot.appliance.supervise.shipped_files import shipped
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.runtime.log_limit import LogLimit

_log = logging.getLogger(__name__)
# Clients can cause messages of HAProxy, so the number of logged messages is limited here.
_log.addFilter(LogLimit())

# After HAProxy's grace period, the other programs get this many seconds to exit.
_STOP_WITHIN = 3.0
_HURRY_WITHIN = 1.0  # After a second stop signal, all programs get this many seconds to exit.
_PAUSE = 0.02  # The number of seconds between two checks for remaining processes.
_LAST_LINES = 3
_SUPERVISORD = "supervisord"
_HAPROXY_MESSAGE = re.compile(r"\[(?P<level>[A-Z]+)\]\s*\(\d+\) : (?P<text>.*)")
_LEVELS = {"NOTICE": logging.DEBUG, "WARNING": logging.WARNING, "ALERT": logging.ERROR}
_WAIT_OPTIONS = os.WEXITED | os.WNOHANG | os.WNOWAIT


class SupervisorProcess:
    """A `SupervisorProcess` runs supervisord in a separate session.

    Because of the separate session, Ctrl-C in a terminal sends a signal to `serve` and not to
    supervisord.

    *open_access_log* gets the reading ends of the pipes for HAProxy's log lines. *observer* gets
    each line that the registry, the logger or the cleaner prints. When the appliance stops, HAProxy
    gets *grace* seconds to finish its requests.
    """

    def __init__(
        self,
        run: Path,
        environment: Mapping[str, str],
        open_access_log: Callable[[Sequence[int]], LogMover],
        signals: StopSignals,
        *,
        grace: float,
        observer: Reader | None = None,
    ) -> None:
        self.run = run
        self._signals = signals
        self._stop_within = grace + _STOP_WITHIN
        self._stopping = self._cleared = False
        self._changed = threading.Event()
        readers: dict[str, Reader | None] = dict.fromkeys(programs.PROGRAMS)
        readers |= {"haproxy": self._log_haproxy, _SUPERVISORD: self._note_change}
        self._output = Output(run, readers, sys.stdout.buffer, observer)
        self._access_log = open_access_log(_log_pipes(run, environment))
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and files
            [
                *(sys.executable, "-m", "entrepot.appliance.supervise.supervisord"),
                *("-c", os.fspath(shipped("supervisord.conf"))),
            ],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self, timeout: float) -> signal.Signals | None:
        """Wait at most *timeout* seconds for a signal that stops the appliance, and return it.

        Return None if no such signal arrives. The wait also ends when a program's state changes.
        Children that have exited are reaped.
        """
        caught = self._signals.wait(timeout)
        self._reap()
        return next(iter(caught), None)

    def take_change(self) -> bool:
        """Return whether a program's state may have changed since the last call."""
        has_changed = self._changed.is_set()
        self._changed.clear()
        return has_changed

    @property
    def is_frozen(self) -> bool:
        """Return whether a signal (SIGSTOP) has suspended supervisord."""
        return session.is_stopped(self._process.pid)

    @property
    def ended(self) -> str:
        """Return how supervisord exited; "" while it runs."""
        code = self._process.returncode
        if code is None:
            return ""
        return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def supervisor_log(self) -> list[str]:
        """Return the last lines of supervisord's own log."""
        return self._output.last(_SUPERVISORD)

    def last_lines(self, name: str) -> str:
        """Return the last lines that a program has printed, joined into one line."""
        return " | ".join(self._output.last(name)[-_LAST_LINES:])

    def stop(self) -> None:
        """Stop all programs, HAProxy first.

        If `serve` gets a second stop signal meanwhile, all programs must exit within one second.
        """
        self._stopping = True
        deadline = time.monotonic() + self._stop_within
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
        while not self.ended and time.monotonic() < deadline:
            if self.wait(deadline - time.monotonic()) is not None:
                session.send(self._process.pid, signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + _HURRY_WITHIN)
        self.clear()

    def clear(self) -> None:
        """Stop the remaining processes of the session: SIGTERM first, and SIGKILL after a second.

        A second call does nothing.
        """
        if self._cleared:
            return
        self._stopping = self._cleared = True
        deadline = time.monotonic() + _HURRY_WITHIN
        while session.members(self._process.pid):
            late = time.monotonic() >= deadline
            session.send(self._process.pid, signal.SIGKILL if late else signal.SIGTERM)
            self.wait(_PAUSE)
        self._process.wait()
        self._access_log.close()
        self._output.close()

    def _note_change(self, _: str) -> None:
        """Make `wait` return, because each line of supervisord's log is about a program's state."""
        self._changed.set()
        self._signals.wake()

    def _log_haproxy(self, line: str) -> None:
        """Log a message of HAProxy in the appliance's format.

        While the appliance stops, the level is DEBUG.
        """
        match = _HAPROXY_MESSAGE.fullmatch(line)
        level = _LEVELS.get(match["level"], logging.WARNING) if match else logging.WARNING
        text = match["text"] if match else line
        number = logging.DEBUG if self._stopping else level
        _log.log(number, "message from haproxy", extra={"said": text})

    def _reap(self) -> None:
        """Reap every child that has exited: supervisord, and orphans if this is process 1."""
        with suppress(ChildProcessError):
            while (dead := os.waitid(os.P_ALL, 0, _WAIT_OPTIONS)) is not None:
                if dead.si_pid == self._process.pid:
                    self._process.poll()
                else:
                    os.waitpid(dead.si_pid, 0)


def _log_pipes(run: Path, environment: Mapping[str, str]) -> Sequence[int]:
    """Create a pipe for each thread of HAProxy, and return their reading ends."""
    threads = int(environment["ENTREPOT_THREADS"])
    return [log_pipe.create(run, thread) for thread in range(1, threads + 1)]
