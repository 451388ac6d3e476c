"""HTTP over a unix socket: how the appliance asks its own parts whether they are well."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path


class _UnixConnection(HTTPConnection):
    """A connection whose other end is a path."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status_of(path: Path, target: str, *, timeout: float) -> int | None:
    """GET *target* over the socket *path*; None when nobody answers within *timeout* s."""
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", target)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
