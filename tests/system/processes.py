"""The processes of an appliance, found by a variable in their environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; `argv` is its command line, or the title that it has set."""

    pid: int
    parent: int
    argv: str


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the variables *extra* and the test run's PATH, locale and time zone."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, **extra}


def marked(mark: str) -> list[Process]:
    """Return the processes whose environment contains *mark*, except zombies."""
    return [each for each in _all() if mark.encode() in _read(each.pid, "environ")]


def flock_holder(path: Path) -> int | None:
    """Return the id of the process that has an exclusive lock on *path*, or None."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return None
    for line in (_PROC / "locks").read_text().splitlines():
        fields = line.split()
        if fields[1:4] == ["FLOCK", "ADVISORY", "WRITE"]:
            pid, where = int(fields[4]), fields[5]
            if where.endswith(f":{inode}"):
                return pid
    return None


def open_files(pid: int) -> list[str]:
    """Return the paths of a process's open files."""
    found = []
    for link in (_PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def _all() -> Iterator[Process]:
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        pid = int(folder.name)
        state, _, rest = (
            _read(pid, "stat").decode("latin-1").rpartition(")")[2].strip().partition(" ")
        )
        if state and state != "Z":
            argv = _read(pid, "cmdline").replace(b"\0", b" ").decode("latin-1").strip()
            yield Process(pid, int(rest.split()[0]), argv)


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
