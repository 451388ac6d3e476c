"""Repeat a response to a request that is byte for byte equal to an earlier one.

Most requests for a blob are equal to earlier ones, because HAProxy writes all headers in one form,
and the clients of a cluster send equal headers. The application may permit a response to be
repeated (`LentConnection.repeatable`). The worker then remembers the response by the bytes of its
request, and answers the next equal request without gunicorn, Falcon or a pool thread.

This module parses no request. It remembers only the bytes of requests that gunicorn has parsed and
found complete. So it never answers a request that gunicorn would reject or would find incomplete.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from typing import BinaryIO
from wsgiref.types import WSGIEnvironment

from entrepot.registry.server.delivery import Delivery, Repeatable, RepeatableBytes
from entrepot.registry.server.fileslice import Piece, pieces
from entrepot.runtime.bounded_dict import BoundedDict

log = logging.getLogger(__name__)

_MOST = 1024
_LONGEST_REQUEST = 2048
"""The worker repeats only responses to requests of at most this many bytes.

It remembers `_MOST` requests with their responses, and `_MOST` requests with their times. All of
these requests together take at most 4 MB.
"""
_MOST_IN_MEMORY = 128
_LONGEST_IN_MEMORY = 16 * 1024
"""The worker remembers at most 128 bodies, of at most 16 KiB each: at most 2 MB in total."""
_FREQUENT_S = 1.0
_END = b"\r\n\r\n"
_HAS_MORE = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"})
"""A request with one of these headers has a body, or its client waits for an interim response."""


class Repeats:
    """A `Repeats` maps the bytes of requests to the responses that one worker may repeat.

    Only one thread at a time calls `answer`; any thread may call the other methods. *clock* is a
    monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: BoundedDict[bytes, tuple[bytes, Repeatable]] = BoundedDict(_MOST)
        self._in_memory: BoundedDict[bytes, tuple[bytes, RepeatableBytes]] = BoundedDict(
            _MOST_IN_MEMORY
        )
        self._received: BoundedDict[bytes, float] = BoundedDict(_MOST)
        self._clock = clock
        self._date = (0, b"")
        self._is_ended = False

    def is_frequent(self, request: bytes) -> bool:
        """Return whether this method was called for an equal GET within the last second."""
        if len(request) > _LONGEST_REQUEST or not request.startswith(b"GET "):
            return False
        now = self._clock()
        before = self._received.get(request, -math.inf)
        self._received.keep(request, now)
        return now - before < _FREQUENT_S

    def keep(
        self,
        request: bytes,
        environ: WSGIEnvironment,
        headers: Sequence[tuple[str, str]],
        repeatable: Repeatable | RepeatableBytes,
    ) -> None:
        """Remember a response with status 200 and *headers* if *request* is one GET without a body.

        gunicorn has parsed the bytes *request* into *environ*, and has read no byte after them.
        """
        line = f"GET {environ['RAW_URI']} HTTP/1.1\r\n".encode("latin-1")
        is_whole = request.startswith(line) and request.find(_END) == len(request) - len(_END)
        if is_whole and len(request) <= _LONGEST_REQUEST and not _HAS_MORE & environ.keys():
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
            head = f"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n{lines}".encode("latin-1")
            if isinstance(repeatable, Repeatable):
                self._known.keep(request, (head, repeatable))
            elif len(repeatable.content) <= _LONGEST_IN_MEMORY:
                self._in_memory.keep(request, (head, repeatable))

    def answer(self, request: bytes, connection: socket.socket) -> Delivery | bool:
        """Repeat the response to a request; return False if no response may be repeated.

        *connection* must be non-blocking. Return True if all is sent, else the `Delivery` of the
        rest. Raises: OSError if a part of the response cannot be sent.
        """
        known = self._known.get(request)
        if known is None or self._is_ended:
            return False
        head, repeatable = known
        file = self._opened(repeatable)
        if file is None:
            self._known.pop(request, None)
            return False
        body = Delivery(_content(file, repeatable.size), repeatable.size, connection)
        try:
            connection.sendall(head + self._date_line())
        except OSError:
            file.close()
            raise
        return body.send(0.0) or body

    def answer_from_memory(self, request: bytes, connection: socket.socket) -> bool:
        """Repeat a response whose body is in memory.

        Return False if no response may be repeated. Raises: OSError if a part of the response
        cannot be sent.
        """
        known = self._in_memory.get(request)
        if known is None or self._is_ended:
            return False
        head, repeatable = known
        if not repeatable.is_permitted():
            self._in_memory.pop(request, None)
            return False
        connection.sendall(head + self._date_line() + repeatable.content)
        return True

    def end(self) -> None:
        """From now on, repeat no response.

        A worker that is about to exit must send `Connection: close`, which the remembered responses
        lack.
        """
        self._is_ended = True

    def _opened(self, repeatable: Repeatable) -> BinaryIO | None:
        try:
            return repeatable.open()
        except Exception:  # Any error is caught here, because it must not end the polling thread.
            log.exception("response not repeated")
            return None

    def _date_line(self) -> bytes:
        """Return the Date header (RFC 9110, 6.6.1), and the end of the header section."""
        second = int(time.time())
        dated, line = self._date
        if dated != second:
            line = f"Date: {formatdate(second, usegmt=True)}\r\n\r\n".encode()
            self._date = (second, line)
        return line


def _content(file: BinaryIO, size: int) -> Iterator[Piece]:
    with file:
        yield from pieces(file, 0, size)
