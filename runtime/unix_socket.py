"""Send a simple HTTP request, or a command for HAProxy's admin socket, over a unix socket.

PERF: `entrepot healthy` imports this module, and runs every few seconds. An import of `http.client`
would double the CPU time of the command.
"""

from __future__ import annotations

import socket
import time
from os import PathLike

_TIMEOUT_S = 5.0
_CHUNK_BYTES = 65536  # One read returns at most this many bytes.
_LONGEST_LINE = 1024  # A status line has at most this many bytes.


def status_of(path: str | PathLike[str], target: str, *, timeout: float) -> int | None:
    """Return the HTTP status of a GET for *target*.

    Return None if the request fails or takes longer than *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    line = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(request.encode())
            while b"\n" not in line and len(line) < _LONGEST_LINE:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                if not (received := connection.recv(_LONGEST_LINE)):
                    return None
                line += received
    except OSError:
        return None
    return _status(line)


def _status(line: bytes) -> int | None:
    """Return the status in a status line (RFC 9112, section 4), or None if it is malformed."""
    version, _, rest = line.partition(b" ")
    number = rest[:3]
    return int(number) if version.startswith(b"HTTP/1.") and number.isdigit() else None


def send_command(path: str | PathLike[str], line: str, *, timeout: float = _TIMEOUT_S) -> str:
    """Send a command to HAProxy's admin socket and return its response.

    *timeout* is the time-out in seconds of each operation, such as one read. Raises: OSError.
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
