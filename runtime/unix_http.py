"""Unix sockets: how the appliance asks its own parts whether they are well, and tells HAProxy."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_PATIENCE = 5.0  # s
_CHUNK = 65536  # bytes


class UnixConnection(HTTPConnection):
    """A connection whose other end is a path; `timeout` in s, for each step."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path. Raises: OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status_of(path: Path, target: str, *, timeout: float) -> int | None:
    """GET *target* over the socket *path*; None when nobody answers within *timeout* s."""
    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", target)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def answer_to(path: Path, line: str) -> str:
    """Say *line* to HAProxy's admin socket and return what it answers. Raises: OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))
        connection.sendall(f"{line}\n".encode())
        return b"".join(iter(lambda: connection.recv(_CHUNK), b"")).decode(errors="replace").strip()
