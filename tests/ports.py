"""Chooses loopback ports for tests; two concurrent tests never get the same port."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

# These ports are below the ports that the kernel gives to outgoing connections (32768 and above).
_FIRST: Final = 20_000
_MANY: Final = 10_000


def free_port() -> int:
    """Return a loopback port on which no program listens.

    All test runs of a user take the next number from one file, so a port is chosen again only after
    9,999 others. The kernel could choose a port too, but another program could then get the same
    port before the caller listens on it.
    """
    while True:
        port = _FIRST + _next() % _MANY
        if _is_free(port):
            return port


def _next() -> int:
    """Return the next number of the count that all test runs of this user share."""
    path = Path(tempfile.gettempdir()) / f"entrepot-tests-ports-{os.getuid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        text = os.read(descriptor, 20)
        number = int(text) + 1 if text.isdigit() else os.getpid()
        os.pwrite(descriptor, f"{number:020}".encode(), 0)
    finally:
        os.close(descriptor)
    return number


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
