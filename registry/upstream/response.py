"""The head of an HTTP/1.1 answer, with a bound on its size and on its time.

`http.client` bounds a line and the number of headers; all of them together could be 6.5 MB, and
each byte could take as long as the read time-out. It also takes every interim answer but 100 for
the answer itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, parse_headers
from io import BufferedReader
from socket import socket
from typing import Any

LARGEST_HEAD = 64 * 1024
"""Bytes of a status line and all headers, interim answers included."""

_MOST_INTERIM = 16


class BoundedResponse(HTTPResponse):
    """Reads its head within `LARGEST_HEAD` bytes and the socket's time-out [s].

    Raises, besides what `http.client` does: HTTPException, TimeoutError.
    """

    def __init__(self, sock: socket, *args: Any, **more: Any) -> None:  # noqa: ANN401 - its own
        super().__init__(sock, *args, **more)
        self._within = sock.gettimeout()

    def begin(self) -> None:
        """Read the head."""
        with self._bounded():
            super().begin()

    def _read_status(self) -> tuple[str, int, str]:
        """Read a status line; pass over interim answers (RFC 9110, 15.2), 103 Early Hints too."""
        for _ in range(_MOST_INTERIM):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # private
            status = line[1]
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise HTTPException("another protocol")  # its body would be no HTTP
            if status >= HTTPStatus.OK or status < HTTPStatus.CONTINUE:
                return line
            parse_headers(self.fp)
        raise HTTPException("too many interim answers")

    def _read_and_discard_trailer(self) -> None:
        """Read what follows the last chunk, within the bounds of a head."""
        with self._bounded():
            while self.fp.readline(LARGEST_HEAD) not in {b"\r\n", b"\n", b""}:
                pass

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        real: Any = self.fp
        self.fp = _BoundedLines(real, self._within)  # type: ignore[assignment]  # reads lines only
        try:
            yield
        finally:
            if self.fp is not None:  # it was not closed
                self.fp = real


class _BoundedLines:
    """Reads lines of *real*, `LARGEST_HEAD` bytes at most in all and *within* so many s."""

    def __init__(self, real: BufferedReader, within: float | None) -> None:
        self._real = real
        self._left = LARGEST_HEAD
        self._until = None if within is None else time.monotonic() + within

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line of at most *size* bytes."""
        line = bytearray()
        most = self._left if size is None or size < 0 else min(size, self._left)
        while len(line) < most:
            ready = self._ready()
            take = min(ready.find(b"\n") + 1 or len(ready), most - len(line))
            if not ready:
                break
            line += self._real.read(take)
            if line.endswith(b"\n"):
                break
        self._left -= len(line)
        if not self._left:
            raise HTTPException("a head of too many bytes")
        return bytes(line)

    def close(self) -> None:
        """Close what is read from."""
        self._real.close()

    def flush(self) -> None:
        """Flush nothing: it is only read from."""

    def _ready(self) -> bytes:
        """Return what has come in, without taking it; wait for it once. Raises: TimeoutError."""
        if self._until is not None and time.monotonic() > self._until:
            raise TimeoutError("the head did not come in time")
        return self._real.peek()
