"""The generation of what HAProxy remembers: it rises with every change of what may be shown.

HAProxy's memory can't be emptied, so the number is part of its every key, and what has an older one
is never found again. Whoever makes a change (of passwords, rules or upstreams, or by removing
content) raises it afterwards. An answer carries the number as it was before anything was looked at,
and HAProxy remembers it only under that same number: what was true before the change only, however
late it arrives, is forgotten with the number that it carries.

The number lies in the run directory, in a file that is also the map that HAProxy starts with.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

_NAME = "generation"
_FIRST = b"generation 0000000001\n"
_NUMBER = slice(11, 21)
_TIMEOUT_S = 1.0


def begin(run: Path) -> None:
    """Write the first generation of a run directory, before HAProxy starts."""
    (run / _NAME).write_bytes(_FIRST)


class CacheEpoch:
    """The number of one appliance, the same in all of its processes. Raises, at first: OSError."""

    def __init__(self, run: Path) -> None:
        self._path = run / _NAME
        self._admin = run / "admin.sock"
        self._owes = True  # of a process that was killed before it told
        with self._path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), len(_FIRST), prot=mmap.PROT_READ)

    def now(self) -> str:
        """Return the number, in as many digits as it always has."""
        # PERF: the pages of the file itself; no system call
        return self._memory[_NUMBER].decode()

    def rise(self) -> None:
        """Have all forgotten that was remembered: within this call, or as soon as `settle` can."""
        with self._turn() as file:
            number = int(self.now()) + 1
            os.pwrite(file.fileno(), f"{number:010}".encode(), _NUMBER.start)
            self._owes = not self._is_told()

    def settle(self) -> None:
        """Tell HAProxy what it could not be told before, for it was not there."""
        if self._owes:
            with self._turn():
                self._owes = not self._is_told()

    @contextmanager
    def _turn(self) -> Iterator[BinaryIO]:
        """Let one at a time write and tell, or HAProxy might go back to an older number."""
        # an open of its own: forked processes share the lock of an open that is older than they
        with self._path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _is_told(self) -> bool:
        """Set HAProxy's number; False while it is not there: it reads the file when it starts."""
        try:
            refusal = _ask(self._admin, f"set map {self._path} generation {self.now()}")
        except OSError:
            return False
        if refusal:
            log.warning("HAProxy refuses the generation", extra={"says": refusal})
        return not refusal


def _ask(admin: Path, command: str) -> str:
    """Return what HAProxy has to say to a command, nothing when all is well. Raises: OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(admin))
        connection.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode("latin-1").strip()
