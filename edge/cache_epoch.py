"""Store the cache epoch, a number that rises with every change of what HAProxy may serve.

HAProxy's cache cannot be emptied. Instead, the epoch is a part of every key of the cache, so
entries of an older epoch are never looked up again. A process raises the epoch after it has read a
changed file (passwords, users, rules, pull secret, token keys). A process also raises the epoch
after it has removed content or found a damaged file, and when a circuit breaker opens.

A worker reads the epoch before it reads content or permissions for a response, and sends the epoch
with the response. HAProxy caches the response only if HAProxy has the same epoch when it receives
the response. So a late response that reflects the state before a change is not cached, or is cached
under an epoch that is never looked up again.

The epoch is in a file of the run directory. HAProxy loads this file as a map at its start.
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
    """Write the first epoch into a run directory; call this function before HAProxy starts."""
    (run / CACHE_EPOCH).write_bytes(_FIRST)


class CacheEpoch:
    """A `CacheEpoch` is the epoch of one appliance, which all its processes share.

    The constructor raises OSError if the file cannot be opened.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / CACHE_EPOCH
        self._admin = run / ADMIN_SOCKET
        # Another process may have raised the epoch and been killed before it sent the epoch to
        # HAProxy. So the first `retry` sends the epoch.
        self._is_pending = True
        with self._path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), len(_FIRST), prot=mmap.PROT_READ)

    def now(self) -> str:
        """Return the cache epoch as a text of ten digits."""
        # PERF: the file is mapped into memory, so a read needs no system call.
        return self._memory[_NUMBER].decode()

    def increment(self) -> None:
        """Raise the epoch and send it to HAProxy; if the sending fails, `retry` sends it later."""
        with self._locked() as file:
            number = int(self.now()) + 1
            os.pwrite(file.fileno(), f"{number:010}".encode(), _NUMBER.start)
            self._is_pending = not self._send_to_haproxy()

    def retry(self) -> None:
        """Send the epoch to HAProxy if the last attempt failed, for example at HAProxy's start."""
        if self._is_pending:
            with self._locked():
                self._is_pending = not self._send_to_haproxy()

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Lock the epoch, so that new epochs reach HAProxy in rising order."""
        # The file is opened again for each lock. If it were opened before a fork, the parent and
        # the child would share the lock, and would not exclude each other.
        with self._path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _send_to_haproxy(self) -> bool:
        """Set the epoch in HAProxy; return False if HAProxy does not run or rejects it.

        If HAProxy does not run, it reads the epoch from the file at its next start.
        """
        try:
            response = send_command(
                self._admin, f"set map {self._path} generation {self.now()}", timeout=_TIMEOUT_S
            )
        except OSError:
            return False
        if response:
            log.warning("HAProxy rejected the cache epoch", extra={"says": response})
        return not response
