"""Poll slow connections that need no thread: slow readers, slow senders, lingering closes.

One thread of each worker polls all slow connections. The polling thread sends the rest of a
response as fast as the client reads. A slow reader may take any time while the worker has fewer
slow readers than the limit. If a worker responds before it has read the whole request body, the
polling thread reads the rest for a short time. If the worker closed the connection at once, the
client would not read the response.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

from entrepot.registry.server.delivery import Delivery

TICK_S = 0.5
"""The poller checks for connections that are too slow or overdue at this interval, in s."""

_PIECE = 256 * 1024
_GRACE_S = 2.0  # A connection does not count as slow before this age, in s.
# HAProxy closes a silent connection after 300 s; this longer limit covers clients without HAProxy.
_SILENCE_S = 330.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """A `ConnectionLimits` limits a worker, which closes its slowest connections above a limit.

    `readers` is the number of handed-over responses, `bodies` the number of request bodies that are
    being received. The worker closes only connections with an average rate below `rate` (bytes/s).
    `drained` is the number of bytes that the worker reads from a client after an early response.
    """

    readers: int = 1536
    bodies: int = 144
    rate: float = 10 * 1024
    drained: int = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class ReceivedBody:
    """A `ReceivedBody` is a request body that a thread is reading.

    `received` bytes have arrived since `began` (s, monotonic clock).
    """

    connection: socket.socket
    began: float
    received: int = 0
    is_cut: bool = False

    def rate(self, now: float) -> float:
        """Return the average rate of the received body in bytes/s; *now* is in s."""
        return self.received / max(now - self.began, 1.0)


@dataclass(slots=True, eq=False)
class _SlowReader:
    """A `_SlowReader` is a handed-over response, polled since `began`; `seen` is its last write.

    `before` is the number of bytes that were sent before the handover. The times `began` and `seen`
    are in s.
    """

    delivery: Delivery
    began: float
    before: int
    seen: float

    def rate(self, now: float) -> float:
        """Return the average rate since the handover in bytes/s; *now* is in s."""
        return (self.delivery.sent - self.before) / max(now - self.began, 1.0)


@dataclass(slots=True, eq=False)
class _LingeringClose:
    """A `_LingeringClose` is a connection that is closed at `until` (s) at the latest.

    The poller reads and discards at most `left` bytes that the client still sends. `is_shut` is
    true after the write side of the connection was shut down.
    """

    connection: socket.socket
    until: float
    left: int
    is_shut: bool = False


_Timed = TypeVar("_Timed", ReceivedBody, _SlowReader)


class ConnectionPoller:
    """A `ConnectionPoller` polls handed-over connections in one thread per worker.

    *run* calls a function in one of the worker's threads. *on_limit* is called with "readers" or
    "bodies" for each connection that the poller closed as too slow. The polling thread starts with
    the first connection that is handed over.
    """

    def __init__(
        self,
        run: Callable[[Callable[[], None]], None],
        limits: ConnectionLimits,
        on_limit: Callable[[str], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick: float = TICK_S,
    ) -> None:
        self._run = run
        self._limits = limits
        self._on_limit = on_limit
        self._clock = clock
        self._tick = tick
        self._handed_over: deque[_SlowReader | _LingeringClose] = deque()
        self._bodies: set[ReceivedBody] = set()
        self._readers: set[_SlowReader] = set()
        self._closings: set[_LingeringClose] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waker = -1

    # ---- any thread may call these methods

    def finish_response(self, delivery: Delivery) -> None:
        """Send the rest of a response, then close the response's connection."""
        now = self._clock()
        self._add(_SlowReader(delivery, now, delivery.sent, now))

    def close_later(self, connection: socket.socket, patience: float, drain: float = 0.0) -> None:
        """Close a connection after the client has closed it, or after *patience* s.

        If *drain* is set, first read and discard bytes from the client for up to *drain* s: the
        client may still be sending its request body.
        """
        until = self._clock() + (drain or patience)
        left = self._limits.drained if drain else _PIECE
        connection.setblocking(False)
        closing = _LingeringClose(connection, until, left)
        if not drain:
            _shut(closing)
        self._add(closing)

    @contextmanager
    def watch_body(self, connection: socket.socket) -> Iterator[ReceivedBody]:
        """Register a request body that the calling thread is reading.

        If there are more bodies than the limit allows, the poller cuts the slowest bodies: `is_cut`
        becomes true and the blocked read returns.
        """
        body = ReceivedBody(connection, self._clock())
        with self._lock:
            self._bodies.add(body)
        if len(self._bodies) > self._limits.bodies:
            self._start()
            self._wake()
        try:
            yield body
        finally:
            with self._lock:
                self._bodies.discard(body)

    def _add(self, each: _SlowReader | _LingeringClose) -> None:
        self._handed_over.append(each)
        self._start()
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # The pipe is full, so the polling thread wakes up anyway.
            os.write(self._waker, b"!")

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                reader, self._waker = os.pipe()
                os.set_blocking(reader, False)
                os.set_blocking(self._waker, False)
                self._thread = threading.Thread(
                    target=self._loop, args=(reader,), name="connections", daemon=True
                )
                self._thread.start()

    # ---- only the polling thread calls these methods

    def _loop(self, waker: int) -> None:
        with selectors.DefaultSelector() as poller:
            poller.register(waker, selectors.EVENT_READ)
            looked = time.monotonic()
            while True:
                for key, _ in poller.select(self._tick if self._is_watching() else None):
                    if key.data is None:
                        with suppress(BlockingIOError):
                            os.read(waker, 4096)
                    else:
                        self._continue(poller, key.data)
                while self._handed_over:
                    self._begin(poller, self._handed_over.popleft())
                if time.monotonic() - looked >= self._tick:
                    looked = time.monotonic()
                    self._end_overdue(poller, self._clock())
                    self._end_slow(poller, self._clock())

    def _is_watching(self) -> bool:
        """Return whether a connection may become overdue or too slow."""
        has_many = len(self._bodies) > self._limits.bodies
        return has_many or bool(self._readers) or bool(self._closings)

    def _begin(self, poller: selectors.BaseSelector, each: _SlowReader | _LingeringClose) -> None:
        if isinstance(each, _LingeringClose):
            self._closings.add(each)
            poller.register(each.connection, selectors.EVENT_READ, each)
        else:
            self._readers.add(each)
            poller.register(each.delivery.connection, selectors.EVENT_WRITE, each)

    def _continue(
        self, poller: selectors.BaseSelector, each: _SlowReader | _LingeringClose
    ) -> None:
        if isinstance(each, _LingeringClose):
            if not _drain(each):
                self._forget(poller, each)
            return
        try:
            is_sent = each.delivery.push()
        except ConnectionError:
            self._forget(poller, each)
            return
        each.seen = self._clock()
        if is_sent:  # Getting the next piece of the body may block, so a worker thread does that.
            poller.unregister(each.delivery.connection)
            self._readers.discard(each)
            self._run(lambda: self._send(each))

    def _send(self, reader: _SlowReader) -> None:
        """Continue a response in a worker thread, to its end or until the client is slow."""
        delivery = reader.delivery
        try:
            is_over = delivery.send(0.0)
        except ConnectionError:
            delivery.connection.close()
        except BaseException:
            delivery.connection.close()
            raise
        else:
            if is_over:
                self.close_later(delivery.connection, _GRACE_S)
            else:
                self._add(reader)

    def _forget(self, poller: selectors.BaseSelector, each: _SlowReader | _LingeringClose) -> None:
        connection = (
            each.connection if isinstance(each, _LingeringClose) else each.delivery.connection
        )
        poller.unregister(connection)
        connection.close()
        if isinstance(each, _LingeringClose):
            self._closings.discard(each)
        else:
            self._readers.discard(each)
            each.delivery.close()

    # ---- these methods close connections that are overdue or too slow

    def _end_overdue(self, poller: selectors.BaseSelector, now: float) -> None:
        for closing in [each for each in self._closings if each.until <= now]:
            if closing.is_shut:
                self._forget(poller, closing)
            else:
                _shut(closing)
                closing.until = now + _GRACE_S
        for reader in [each for each in self._readers if now - each.seen > _SILENCE_S]:
            self._forget(poller, reader)

    def _end_slow(self, poller: selectors.BaseSelector, now: float) -> None:
        """Close the slowest connections until their number is within the limit."""
        over = len(self._readers) - self._limits.readers
        for reader in self._slowest(self._readers, over, now):
            self._forget(poller, reader)
            self._on_limit("readers")
        with self._lock:
            bodies = [each for each in self._bodies if not each.is_cut]
        over = len(bodies) - self._limits.bodies
        for body in self._slowest(bodies, over, now):
            body.is_cut = True
            self._on_limit("bodies")
            with suppress(OSError):
                body.connection.shutdown(socket.SHUT_RD)

    def _slowest(self, found: Iterable[_Timed], over: int, now: float) -> list[_Timed]:
        if over <= 0:
            return []
        rates = [(each.rate(now), each) for each in found if now - each.began > _GRACE_S]
        slow = sorted((each for each in rates if each[0] < self._limits.rate), key=itemgetter(0))
        return [each for _, each in slow[:over]]


def _shut(closing: _LingeringClose) -> None:
    closing.is_shut = True
    with suppress(OSError):
        closing.connection.shutdown(socket.SHUT_WR)


def _drain(closing: _LingeringClose) -> bool:
    """Read and discard pending bytes; return False if the client has closed or sent too much."""
    try:
        received = len(closing.connection.recv(min(_PIECE, closing.left + 1)))
    except BlockingIOError:
        return True
    except OSError:
        return False
    closing.left -= received
    return received > 0 and closing.left >= 0
