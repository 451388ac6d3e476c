"""Read the CPU time and the memory of a server's processes from /proc."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_QUIET_S = 0.25
_LEAST_TICKS = 2
_SUPERVISORD = "entrepot.appliance.supervise.supervisord"


@dataclass(frozen=True, slots=True)
class Process:
    """A process; `cpu` is its CPU time, including that of children that have ended (s)."""

    pid: int
    parent: int
    name: str
    cpu: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes: `rss` counts whole pages, `pss` 1/n of a page that n processes share."""

    rss: int = 0
    pss: int = 0


class Tree:
    """The process *root* with all its descendants."""

    def __init__(self, root: int) -> None:
        self._root = root

    def processes(self) -> list[Process]:
        """Return the processes of the tree that run now."""
        return below(self._root, _all())

    def cpu(self) -> dict[str, float]:
        """Return the CPU time since the start of each process (s), by role."""
        spent: defaultdict[str, float] = defaultdict(float)
        for process in self.processes():
            spent[_role(process)] += process.cpu
        return dict(spent)

    def run_time(self) -> dict[str, float]:
        """Return the CPU time of the living threads (s), by role, from the kernel's scheduler.

        `cpu` counts clock ticks, and so it can miss a process that runs for less than a tick.
        """
        ran: defaultdict[str, float] = defaultdict(float)
        for process in self.processes():
            with suppress(OSError):
                for thread in (_PROC / str(process.pid) / "task").iterdir():
                    ran[_role(process)] += parse_schedstat(_read(int(thread.name), "schedstat"))
        return dict(ran)

    def memory(self) -> dict[str, list[Memory]]:
        """Return the memory of each process of the tree, by role."""
        found: dict[str, list[Memory]] = {}
        for process in self.processes():
            text = _read(process.pid, "smaps_rollup")
            found.setdefault(_role(process), []).append(parse_memory(text))
        return found

    def settle(self, within: float = 15.0) -> None:
        """Wait until the server's processes are nearly idle, for at most *within* seconds.

        A server also works after a response, for example to read its access log. This work is part
        of the cost.
        """
        deadline = time.monotonic() + within
        before = sum(self.cpu().values())
        while time.monotonic() < deadline:
            time.sleep(_QUIET_S)
            now = sum(self.cpu().values())
            if now - before < _LEAST_TICKS * _TICK_S:
                return
            before = now


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the CPU time between two readings of `cpu` (s), by role."""
    return {name: after.get(name, 0) - before.get(name, 0) for name in {*before, *after}}


def total(memory: Mapping[str, Iterable[Memory]]) -> Memory:
    """Return the memory of all processes together."""
    each = [one for many in memory.values() for one in many]
    return Memory(sum(one.rss for one in each), sum(one.pss for one in each))


def below(root: int, processes: Iterable[Process]) -> list[Process]:
    """Return the given processes that are *root* or its descendants."""
    known = {process.pid: process for process in processes}
    children: dict[int, list[int]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in known:
            found.append(known[pid])
            waiting += children.get(pid, [])
    return found


def parse_stat(text: str) -> Process:
    """Return the process that the text of /proc/PID/stat describes.

    The name of the process can contain blanks and parentheses.
    """
    head, _, rest = text.rpartition(")")
    pid, _, name = head.partition(" (")
    fields = rest.split()
    ticks = sum(int(each) for each in fields[11:15])  # utime stime cutime cstime
    return Process(int(pid), int(fields[1]), name, ticks * _TICK_S)


def parse_memory(text: str) -> Memory:
    """Return the memory that the text of /proc/PID/smaps_rollup states.

    If the process has ended, the text is empty and the memory is 0.
    """
    found = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return Memory(found.get("Rss", 0), found.get("Pss", 0))


def parse_schedstat(text: str) -> float:
    """Return the run time in the text of /proc/PID/schedstat (s); 0 if the thread has ended."""
    return int(text.split(maxsplit=1)[0]) / 1e9 if text else 0.0


def role_of(name: str, words: list[str]) -> str:
    """Return the role of a process: the name of its Python module, or else of its program."""
    if "-m" in words[:-1]:
        module = words[len(words) - 1 - words[::-1].index("-m") + 1]
        if module == _SUPERVISORD:
            return "supervisord"
        return module.removeprefix("entrepot.").partition(".")[0]
    return name


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    return state not in ([], ["Z"], ["X"])


def _role(process: Process) -> str:
    return role_of(process.name, _read(process.pid, "cmdline").rstrip("\0").split("\0"))


def _all() -> Iterator[Process]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (text := _read(int(folder.name), "stat")):
            yield parse_stat(text)


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / name).read_text(errors="replace")
    return ""
