"""The cache epoch is a number that rises with every change of the content that HAProxy may serve.

HAProxy's cache cannot be emptied. Instead, the epoch is part of every key of the cache, and entries
of an older epoch are never looked up again. A process that changes passwords, rules or upstreams,
or that removes content, raises the epoch afterwards.

A response carries the epoch that was current before the worker read any content or rights for it.
HAProxy caches the response only if HAProxy's own epoch is the same. A late response that reflects
the state before a change is therefore cached, if at all, under an epoch that is never looked up
again.

The epoch is stored in the run directory, in a file that is also the map that HAProxy loads at its
start.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from entrepot.runtime.run_names import ADMIN_SOCKET, CACHE_EPOCH
from entrepot.runtime.unix_socket import send_command

log = logging.getLogger(__name__)

_FIRST = b"generation 0000000001\n"
_NUMBER = slice(11, 21)
_TIMEOUT_S = 1.0


def begin(run: Path) -> None:
    """Write the first epoch of a run directory, before HAProxy starts."""
    (run / CACHE_EPOCH).write_bytes(_FIRST)


class CacheEpoch:
    """A `CacheEpoch` is the epoch of one appliance, shared by its processes.

    Raises: OSError, when the object is created.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / CACHE_EPOCH
        self._admin = run / ADMIN_SOCKET
        # The last process that raised the epoch may have been killed before it sent the epoch to
        # HAProxy.
        self._is_pending = True
        with self._path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), len(_FIRST), prot=mmap.PROT_READ)

    def now(self) -> str:
        """Return the cache epoch, as text with a fixed number of digits."""
        # PERF: the epoch is memory-mapped, so that reading it needs no system call.
        return self._memory[_NUMBER].decode()

    def increment(self) -> None:
        """Raise the epoch and send it to HAProxy; if that fails, `retry` sends the epoch later."""
        with self._locked() as file:
            number = int(self.now()) + 1
            os.pwrite(file.fileno(), f"{number:010}".encode(), _NUMBER.start)
            self._is_pending = not self._send_to_haproxy()

    def retry(self) -> None:
        """Send the epoch to HAProxy if the last attempt failed, e.g. during HAProxy's start."""
        if self._is_pending:
            with self._locked():
                self._is_pending = not self._send_to_haproxy()

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Lock the epoch, so that its numbers reach HAProxy in rising order."""
        # The file of the cache epoch is opened anew, because forked processes share a lock on a
        # file opened before the fork.
        with self._path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _send_to_haproxy(self) -> bool:
        """Set HAProxy's epoch; return False if HAProxy is down (it reads the file at its start)."""
        try:
            response = send_command(
                self._admin, f"set map {self._path} generation {self.now()}", timeout=_TIMEOUT_S
            )
        except OSError:
            return False
        if response:
            log.warning("HAProxy rejected the cache epoch", extra={"says": response})
        return not response
