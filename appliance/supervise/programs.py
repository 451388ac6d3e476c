"""The programs as supervisord sees them, and when they have failed for good."""

from __future__ import annotations

import re
import socket
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import cast
from xmlrpc.client import Error, ServerProxy, Transport

from entrepot.runtime.unix_http import UnixConnection

PROGRAMS = ("haproxy", "registry", "logger", "cleaner")

_SOCKET = "supervisor.sock"
_MOST_ENDS = 5
_WITHIN = 60.0  # s
_PATIENCE = 2.0  # s
_LONGEST_SILENCE = 30.0  # s of looks
_LONGEST_LOOK = _PATIENCE + 1.0  # s; what is longer between two looks was a pause of ours
# supervisord's own log line
_ENDED = re.compile(r"exited: (?P<name>\S+) \((?P<how>.*?)(?:; (?:not )?expected)?\)")


class SupervisorUnreachable(Exception):  # noqa: N818 - the class says the fact
    """supervisord does not answer: not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program: `state` is supervisord's word, `started` in s, UTC epoch, `pid` 0 for none."""

    name: str
    state: str
    pid: int
    started: float
    why: str
    group: str = ""

    @property
    def has_given_up(self) -> bool:
        """Whether supervisord will not start it again."""
        return self.state == "FATAL"


@dataclass(frozen=True, slots=True)
class ProgramFailure:
    """A program that could not stay up, and what supervisord says of it."""

    name: str
    reason: str


def ask(run: Path) -> list[Program]:
    """Return all programs. Raises: Silent."""
    told = _call(run, "supervisor.getAllProcessInfo")
    return [_program(each) for each in cast("list[dict[str, str | int]]", told)]


def shut_down(run: Path) -> None:
    """Have supervisord end all programs, and then itself. Raises: Silent."""
    _call(run, "supervisor.shutdown")


def start(run: Path, program: Program) -> None:
    """Have supervisord start a program that it has given up. Raises: Silent, also if it runs."""
    _call(run, "supervisor.startProcess", f"{program.group}:{program.name}", False)


def is_gone(run: Path) -> bool:
    """Whether the socket of a supervisord that runs was deleted: it cannot be asked any more."""
    return not (run / _SOCKET).exists()


def nudge(run: Path) -> None:
    """Have supervisord look who has died: left to itself it does so once a second."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        connection.connect(str(run / _SOCKET))


class _Transport(Transport):
    """XML-RPC over a unix socket, with an end to patience: who waits here takes no signals."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._opened: UnixConnection | None = None

    def make_connection(self, host: object) -> UnixConnection:
        """Connect to the path, whatever the host is."""
        del host
        self.close()
        self._opened = UnixConnection(self._path, _PATIENCE)
        return self._opened

    def close(self) -> None:
        """Hang up."""
        if self._opened is not None:
            self._opened.close()


def _call(run: Path, method: str, *arguments: str | bool) -> object:
    transport = _Transport(run / _SOCKET)
    try:
        called = getattr(ServerProxy("http://localhost", transport), method)
        return cast("object", called(*arguments))
    except (OSError, HTTPException, Error) as error:
        raise SupervisorUnreachable(str(error)) from error
    finally:
        transport.close()


class ProgramWatch:
    """Counts how often each program has ended; pure but for what it remembers.

    Times are in s, of any one clock.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        self._silent = 0.0  # s
        self._pids: dict[str, int] = {}
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    def restarted(self, programs: Iterable[Program], now: float) -> list[str]:
        """Return those that run again under another process id than at the last look."""
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
        """Return the program that has given up, or that ends again and again."""
        for program in programs:
            if program.has_given_up:
                return ProgramFailure(program.name, program.why or "it cannot be started")
            ends = self._ends[program.name]
            while ends and ends[0] < now - _WITHIN:
                ends.popleft()
            if len(ends) >= _MOST_ENDS:
                return ProgramFailure(
                    program.name, f"it ended {len(ends)} times within {_WITHIN:.0f} s"
                )
        return None

    def forgive(self) -> None:
        """Forget how often programs have ended: it was not their fault."""
        self._ends.clear()

    def silence(self, now: float, *, is_frozen: bool = False) -> ProgramFailure | None:
        """Judge a look that supervisord has not answered; at the start it cannot yet.

        Looks are counted, not the time that passes: after a pause (SIGSTOP, a frozen container, a
        suspended machine) one failed look proves nothing. *is_frozen*: supervisord is stopped.
        """
        self._silent += 0.0 if is_frozen else min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        if self._silent < _LONGEST_SILENCE:
            return None
        return ProgramFailure("supervisord", f"it has not answered for {_LONGEST_SILENCE:.0f} s")


def how_it_ended(name: str, lines: Sequence[str]) -> str:
    """Find in supervisord's log how *name* ended last, "" when it does not say."""
    found = (_ENDED.search(line) for line in reversed(lines))
    return next((match["how"] for match in found if match and match["name"] == name), "")


def _program(told: dict[str, str | int]) -> Program:
    return Program(
        name=str(told["name"]),
        state=str(told["statename"]),
        pid=int(told["pid"]),
        started=float(told["start"]),
        why=str(told["spawnerr"]).removesuffix(" (process log may have details)").lower(),
        group=str(told["group"]),
    )
