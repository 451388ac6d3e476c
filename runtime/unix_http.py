"""Connect to unix sockets: HTTP to the appliance's processes, and HAProxy's admin socket."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_TIMEOUT_S = 5.0  # time-out in s
_CHUNK_BYTES = 65536  # bytes of one read


class UnixConnection(HTTPConnection):
    """A `UnixConnection` is an HTTP connection to a unix socket.

    `timeout` is in s, for each step.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises: OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status_of(path: Path, target: str, *, timeout: float) -> int | None:
    """Return the status of a GET for *target*; None without a response within *timeout* s."""
    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", target)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def send_command(path: Path, line: str, *, timeout: float = _TIMEOUT_S) -> str:
    """Send a command to HAProxy's admin socket and return its response.

    *timeout* is in s, for each step. Raises: OSError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(f"{line}\n".encode())
        return (
            b"".join(iter(lambda: connection.recv(_CHUNK_BYTES), b""))
            .decode(errors="replace")
            .strip()
        )
