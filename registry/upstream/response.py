"""Read the status line and headers of an HTTP/1.1 response within bounds of size and time.

The module `http.client` limits only each line and the number of headers. Within these limits, all
headers together could have 6.5 MB, and each byte could take as long as the read time-out.
`http.client` also treats every interim response but 100 as the final response.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, parse_headers
from io import BufferedReader, BytesIO
from socket import socket
from typing import Any

from entrepot.registry.upstream.headers import LARGEST_SIZE, whole_number

LARGEST_HEAD = 64 * 1024
"""The status line and all headers must have fewer than this many bytes.

The limit includes the status lines and headers of interim responses.
"""

_MOST_INTERIM = 16
_CLOSE_S = 0.1  # The time limit of the headers can be exceeded by this many seconds.
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n")
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class InvalidContentLength(HTTPException):
    """The end of a response's body cannot be determined (RFC 9112, 6.3)."""


class BoundedResponse(HTTPResponse):
    """A `BoundedResponse` limits the size and the time of the status line and headers.

    They must have fewer than `LARGEST_HEAD` bytes, and arrive within the time-out of the socket.

    Raises: the errors of `http.client`; HTTPException or TimeoutError if a limit is exceeded.
    """

    def __init__(self, sock: socket, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as in http.client
        super().__init__(sock, *args, **more)
        self._socket = sock
        self._within = sock.gettimeout()

    def begin(self) -> None:
        """Read the status line and the headers."""
        with self._bounded():
            super().begin()
        self._check_length()

    def _check_length(self) -> None:
        """Set the length of the response's body. Raises: InvalidContentLength.

        `http.client` would read a body of invalid length until the upstream closes the connection,
        which may never happen. Several equal lengths in Content-Length are one length (RFC 9110,
        8.6).
        """
        lengths = self.headers.get_all("Content-Length")
        is_head = self._method == "HEAD"  # type: ignore[attr-defined]  # private
        if not lengths or self.chunked or is_head or self.status in _WITHOUT_BODY:
            return
        values = {each.strip() for each in ",".join(lengths).split(",")}
        length = whole_number(values.pop(), LARGEST_SIZE)
        if values or length is None:
            raise InvalidContentLength
        self.length = length

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line of the final response; skip interim responses (RFC 9110, 15.2)."""
        for _ in range(_MOST_INTERIM):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # private
            status = line[1]
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                # After a switch of protocols the body would not be HTTP.
                raise HTTPException("switches protocols")
            if status >= HTTPStatus.OK or status < HTTPStatus.CONTINUE:
                return line
            parse_headers(self.fp)
        raise HTTPException("too many interim responses")

    def _read_and_discard_trailer(self) -> None:
        """Read the trailer after the last chunk, within the limits of the headers."""
        with self._bounded():
            while self.fp.readline(LARGEST_HEAD) not in {b"\r\n", b"\n", b""}:
                pass

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        real: Any = self.fp
        lines = _BoundedLines(real, self._socket, self._within)
        self.fp = lines  # type: ignore[assignment]  # reads lines only
        try:
            yield
        finally:
            if self.fp is not None:  # The attribute is None after close().
                self.fp = real
            lines.restore_time_out()


class _BoundedLines:
    """A `_BoundedLines` reads the lines of *real* within two limits.

    All lines together must have fewer than `LARGEST_HEAD` bytes, and arrive within *within*
    seconds.
    """

    def __init__(self, real: BufferedReader, sock: socket, within: float | None) -> None:
        self._real = real
        self._socket = sock
        self._within = within
        self._has_changed = False
        self._received = BytesIO()
        self._left = LARGEST_HEAD
        self._until = None if within is None else time.monotonic() + within

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line of at most *size* bytes.

        PERF: the headers usually arrive in one piece. `_received` then contains all of their lines.
        """
        most = self._left if size is None or size < 0 else min(size, self._left)
        line = self._received.readline(most) or self._next_line(most)
        self._left -= len(line)
        if not self._left:
            raise HTTPException("more than 64 KiB of headers")
        return line

    def _next_line(self, most: int) -> bytes:
        """Read a line of at most *most* bytes from the connection."""
        end = _EMPTY_LINE.search(self._ready())
        if end is not None and end.end() <= self._left:
            self._received = BytesIO(self._real.read(end.end()))
            return self._received.readline(most)
        line = bytearray()
        while len(line) < most:
            ready = self._ready()
            take = min(ready.find(b"\n") + 1 or len(ready), most - len(line))
            if not ready:
                break
            line += self._real.read(take)
            if line.endswith(b"\n"):
                break
        return bytes(line)

    def restore_time_out(self) -> None:
        """Set the socket's original time-out, which applies to each read of the body."""
        if self._has_changed:
            self._socket.settimeout(self._within)

    def close(self) -> None:
        """Close the underlying file."""
        self._real.close()

    def flush(self) -> None:
        """Do nothing, because the file is only read."""

    def _ready(self) -> bytes:
        """Return received bytes without consuming them; wait once if no byte has arrived.

        Raises: TimeoutError.
        """
        if self._until is not None and self._within is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the headers of the response were not received in time")
            # PERF: usually all headers arrive after one wait, for which the socket's time-out is
            # right already.
            if left < self._within - _CLOSE_S:
                self._socket.settimeout(left)
                self._has_changed = True
        return self._real.peek()
