"""Send HTTP GET requests with little CPU time, because server and load generator share the CPU."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

_HEAD_LARGEST = 64 * 1024
# The most bytes of one read, as in Go's io.Copy, which dockerd, containerd and podman use
_PIECE = 32 * 1024
_TIMEOUT_S = 60.0


class Broken(Exception):  # noqa: N818 - the name states the fact
    """The server's response is not the one that the load generator expects."""


def connect(port: int, context: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to a port of 127.0.0.1, with TLS if *context* is given. Raises: OSError."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    return context.wrap_socket(connection) if context else connection


def ask(connection: socket.socket, path: str, headers: Mapping[str, str]) -> None:
    """Send a GET request over an open connection. Raises: OSError."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())


def read_head(connection: socket.socket) -> tuple[int, bytes]:
    """Read the head of a response; return the body's length and the bytes of the body so far.

    Raises: Broken if the status is not 200 or the length is missing; OSError.
    """
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(_HEAD_LARGEST)
        if not piece or len(text) > _HEAD_LARGEST:
            raise Broken("the head of the response is incomplete or too long")
        text += piece
    head, _, rest = text.partition(b"\r\n\r\n")
    return length_in(head), rest


def length_in(head: bytes) -> int:
    """Return the Content-Length in the head of a 200 response. Raises: Broken."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["200"]:
        raise Broken(f"the response begins with {status!r}")
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise Broken("the response has no Content-Length")


def skip_body(connection: socket.socket, length: int) -> int:
    """Read and discard *length* bytes; return how many bytes arrived. Raises: OSError."""
    buffer = memoryview(bytearray(_PIECE))
    left = length
    while left and (count := connection.recv_into(buffer[: min(left, _PIECE)])):
        left -= count
    return length - left
