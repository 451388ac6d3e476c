"""Read the programs' states from supervisord, and detect a program that keeps exiting."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import cast
from xmlrpc.client import Error, ServerProxy, Transport

from entrepot.runtime.run_names import SUPERVISOR_SOCKET
from entrepot.runtime.unix_http import UnixConnection

PROGRAMS = ("haproxy", "registry", "logger", "cleaner")

_MOST_ENDS = 5
_WITHIN = 60.0  # The exits of a program are counted over this many seconds.
_TIMEOUT_S = 2.0
_LONGEST_SILENCE = 30.0  # supervisord counts as failed after this many seconds without a response.
# If more than this many seconds pass between two checks by `serve`, `serve` itself was suspended.
_LONGEST_LOOK = _TIMEOUT_S + 1.0
# The log lines of supervisord have this format.
_ENDED = re.compile(r"exited: (?P<name>\S+) \((?P<how>.*?)(?:; (?:not )?expected)?\)")


class SupervisorUnreachable(Exception):  # noqa: N818 - the name states the fact
    """Supervisord does not respond, for example because it is starting or has exited."""


@dataclass(frozen=True, slots=True)
class Program:
    """A `Program` is a program that supervisord runs.

    `state` is supervisord's name of the state. `pid` is 0 if there is no process. `started` is in
    seconds since the UTC epoch. If the program could not be started, `why` is supervisord's reason.
    """

    name: str
    state: str
    pid: int
    started: float
    why: str
    group: str = ""

    @property
    def has_given_up(self) -> bool:
        """Return whether supervisord has stopped trying to start the program."""
        return self.state == "FATAL"


@dataclass(frozen=True, slots=True)
class ProgramFailure:
    """A `ProgramFailure` names a program that keeps exiting or does not start, and the reason."""

    name: str
    reason: str


def read_all(run: Path) -> list[Program]:
    """Return the state of all programs. Raises: SupervisorUnreachable."""
    processes = _call(run, "supervisor.getAllProcessInfo")
    return [_program(each) for each in cast("list[dict[str, str | int]]", processes)]


def start(run: Path, program: Program) -> None:
    """Make supervisord start a program for which `has_given_up` is true.

    Raises: SupervisorUnreachable, even if supervisord responds that the program already runs.
    """
    _call(run, "supervisor.startProcess", f"{program.group}:{program.name}", False)


def is_gone(run: Path) -> bool:
    """Return whether supervisord's socket was deleted; then no request can reach supervisord."""
    return not (run / SUPERVISOR_SOCKET).exists()


class _Transport(Transport):
    """A `_Transport` sends XML-RPC requests over a unix socket.

    The time-out is short, because `serve` handles no signals while it waits.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._opened: UnixConnection | None = None

    def make_connection(self, host: object) -> UnixConnection:
        """Connect to the socket; *host* is ignored."""
        del host
        self.close()
        self._opened = UnixConnection(self._path, _TIMEOUT_S)
        return self._opened

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()


def _call(run: Path, method: str, *arguments: str | bool) -> object:
    transport = _Transport(run / SUPERVISOR_SOCKET)
    try:
        called = getattr(ServerProxy("http://localhost", transport), method)
        return cast("object", called(*arguments))
    except (OSError, HTTPException, Error) as error:
        raise SupervisorUnreachable(str(error)) from error
    finally:
        transport.close()


class ProgramWatch:
    """A `ProgramWatch` counts the exits of each program; its caller reads the programs' states.

    Times are in seconds of a monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        self._silent = 0.0  # The number of seconds for which supervisord has not responded.
        self._pids: dict[str, int] = {}
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    def restarted(self, programs: Iterable[Program], now: float) -> list[str]:
        """Return the names of programs whose process id changed since the last call."""
        self._looked, self._silent = now, 0.0
        names = []
        for program in programs:
            before = self._pids.get(program.name, 0)
            if program.pid and before and program.pid != before:
                names.append(program.name)
                self._ends[program.name].append(now)
            self._pids[program.name] = program.pid or before
        return names

    def failure(self, programs: Iterable[Program], now: float) -> ProgramFailure | None:
        """Return the failure of a program that cannot be started or exited too often, or None."""
        for program in programs:
            if program.has_given_up:
                return ProgramFailure(program.name, program.why or "the program cannot be started")
            ends = self._ends[program.name]
            while ends and ends[0] < now - _WITHIN:
                ends.popleft()
            if len(ends) >= _MOST_ENDS:
                return ProgramFailure(
                    program.name, f"the program ended {len(ends)} times within {_WITHIN:.0f} s"
                )
        return None

    def forgive(self) -> None:
        """Forget the counted exits, because a full disk, not a fault of a program, caused them."""
        self._ends.clear()

    def silence(self, now: float, *, is_frozen: bool = False) -> ProgramFailure | None:
        """Record a request to which supervisord did not respond; after 30 s return a failure.

        The time without a response grows by the time since the previous check, but by at most 3 s.
        So a single request is no failure, even if the whole machine was suspended for an hour
        before the request. If *is_frozen* is true, a signal (SIGSTOP) has suspended supervisord,
        and the time without a response does not grow.
        """
        self._silent += 0.0 if is_frozen else min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        if self._silent < _LONGEST_SILENCE:
            return None
        return ProgramFailure(
            "supervisord", f"supervisord has not answered for {_LONGEST_SILENCE:.0f} s"
        )


def how_it_ended(name: str, lines: Sequence[str]) -> str:
    """Return how the last process of the program *name* exited, from *lines* of supervisord's log.

    Return an empty string if no line states how the process exited.
    """
    found = (_ENDED.search(line) for line in reversed(lines))
    return next((match["how"] for match in found if match and match["name"] == name), "")


def _program(fields: dict[str, str | int]) -> Program:
    return Program(
        name=str(fields["name"]),
        state=str(fields["statename"]),
        pid=int(fields["pid"]),
        started=float(fields["start"]),
        why=str(fields["spawnerr"]).removesuffix(" (process log may have details)").lower(),
        group=str(fields["group"]),
    )
