"""supervisord and all that it runs, in a session of its own: started, watched, ended."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from entrepot.appliance.supervise import log_pipe, programs, session
from entrepot.appliance.supervise.environment import shipped
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.appliance.supervise.output import Output, Reader
from entrepot.runtime.log_limit import LogLimit
from entrepot.runtime.signals import Signals

_log = logging.getLogger(__name__)
_log.addFilter(LogLimit())  # clients can bring HAProxy to say something

_STOP_WITHIN = 3.0  # s beyond HAProxy's grace: for the others
_HURRY_WITHIN = 1.0  # s
_PAUSE = 0.02  # s
_NUDGE_EVERY = 0.05  # s
_LAST_WORDS = 3  # lines
_KEEPER = "supervisord"
_HAPROXY_SAYS = re.compile(r"\[(?P<level>[A-Z]+)\]\s*\(\d+\) : (?P<text>.*)")
_LEVELS = {"NOTICE": logging.DEBUG, "WARNING": logging.WARNING, "ALERT": logging.ERROR}
STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def block_signals() -> Signals:
    """Have signals wait until `House.wait` takes them; threads and later calls inherit that."""
    return Signals(STOPS | {signal.SIGCHLD})


class SupervisorProcess:
    """One supervisord; its own session keeps a terminal's Ctrl-C from it, so that we decide.

    HAProxy's lines go into *access_log* as *line_limit* allows; at a stop it has *grace* s for
    what is in flight.
    """

    def __init__(
        self,
        run: Path,
        environment: Mapping[str, str],
        access_log: RotatedLog,
        signals: Signals,
        *,
        line_limit: LineLimit,
        grace: float,
    ) -> None:
        self.run = run
        self._signals = signals
        self._stop_within = grace + _STOP_WITHIN
        self._stopping = self._cleared = False
        readers: dict[str, Reader | None] = dict.fromkeys(programs.PROGRAMS)
        readers |= {"haproxy": self._haproxy_said, _KEEPER: lambda _: None}
        self._output = Output(run, readers, sys.stdout.buffer)
        self._access_log = LogMover(log_pipe.make(run), access_log, line_limit)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and files
            [
                *(sys.executable, "-m", "entrepot.appliance.supervise.parent_death_signal"),
                *(sys.executable, "-m", "supervisor.supervisord"),
                *("-c", os.fspath(shipped("supervisord.conf"))),
            ],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self, patience: float) -> signal.Signals | None:
        """Wait at most *patience* s for a signal, bury who has died, and return a wish to stop."""
        caught = self._signals.wait(patience)
        self._reap()
        return next((each for each in caught if each in STOPS), None)

    @property
    def is_frozen(self) -> bool:
        """Whether a signal has stopped supervisord: then its silence says nothing."""
        return session.is_stopped(self._process.pid)

    @property
    def ended(self) -> str:
        """How supervisord ended, "" while it runs."""
        code = self._process.returncode
        if code is None:
            return ""
        return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def keeper_log(self) -> list[str]:
        """Return the last lines that supervisord itself has written."""
        return self._output.last(_KEEPER)

    def last_words(self, name: str) -> str:
        """Return the last lines that a program has printed, in one."""
        return " | ".join(self._output.last(name)[-_LAST_WORDS:])

    def stop(self) -> None:
        """End everything in order, HAProxy first; a second signal to us shortens the grace."""
        self._stopping = True
        deadline = time.monotonic() + self._stop_within
        try:
            programs.shut_down(self.run)  # a signal would wait until supervisord looks up
        except programs.SupervisorUnreachable:
            self._process.send_signal(signal.SIGTERM)
        while not self.ended and time.monotonic() < deadline:
            programs.nudge(self.run)
            if self.wait(min(_NUDGE_EVERY, deadline - time.monotonic())) is not None:
                session.send(self._process.pid, signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + _HURRY_WITHIN)
        self.clear()

    def clear(self) -> None:
        """End what is left of the session, by force after a moment. May be repeated."""
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

    def _haproxy_said(self, line: str) -> None:
        """Say it in our form; that it ends when it is to end is no news."""
        match = _HAPROXY_SAYS.fullmatch(line)
        level = _LEVELS.get(match["level"], logging.WARNING) if match else logging.WARNING
        text = match["text"] if match else line
        number = logging.DEBUG if self._stopping else level
        _log.log(number, "haproxy says", extra={"said": text})

    def _reap(self) -> None:
        """Bury every child that has died: ours, and, as process 1, everybody's orphans."""
        with suppress(ChildProcessError):
            while (dead := os.waitid(os.P_ALL, 0, _LOOK)) is not None:
                if dead.si_pid == self._process.pid:
                    self._process.poll()
                else:
                    os.waitpid(dead.si_pid, 0)
