"""Poll connections that are idle, are being closed, or have a slow client.

One thread of each worker polls all these connections. The polling thread sends the rest of a
response as fast as the client reads. The connection of a slow reader is closed only if the worker
has more slow readers than the limit, or if the client reads nothing for `_SILENCE_S` seconds. If a
request on an idle connection equals an earlier request, the polling thread repeats the response
(registry/server/repeats.py). If a worker responds before it has read the whole request body, the
polling thread reads the rest for a short time. If the worker closed the connection with unread
bytes, the kernel would reset the connection, and the client could lose the response.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import TypeVar

from entrepot.registry.server.delivery import Delivery
from entrepot.registry.server.polled import (
    ConnectionLimits,
    KeptConnection,
    LingeringClose,
    Polled,
    ReceivedBody,
    SlowReader,
)
from entrepot.registry.server.repeats import Repeats

TICK_S = 0.5
"""The poller checks for connections that are too slow or overdue at this interval, in seconds."""
_IDLE_TICKS = 30
"""While all connections are idle, the interval between two checks is this many times longer."""
KEEP_S = 75.0
"""The poller keeps an idle connection open for this many seconds, longer than HAProxy does."""

_GRACE_S = 2.0  # A connection is never treated as slow before this age, in seconds.
# HAProxy closes a silent connection after 300 s; this longer limit covers clients without HAProxy.
_SILENCE_S = 330.0

log = logging.getLogger(__name__)

_Timed = TypeVar("_Timed", ReceivedBody, SlowReader)


class ConnectionPoller:
    """A `ConnectionPoller` polls handed-over connections in one thread per worker.

    *run* calls a function in one of the worker's threads. *on_limit* is called with "readers" or
    "bodies" for each connection that the poller closed or cut off because its client was too slow.
    `repeats` stores the responses that the poller may repeat. The polling thread is started when
    the first connection is handed over.
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
        self.repeats = Repeats()
        self._run = run
        self._limits = limits
        self._on_limit = on_limit
        self._clock = clock
        self._tick = tick
        self._handed_over: deque[Polled] = deque()
        self._bodies: set[ReceivedBody] = set()
        self._readers: set[SlowReader] = set()
        self._closings: set[LingeringClose] = set()
        self._kept: set[KeptConnection] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waker = -1

    # ---- any thread may call these methods

    def finish_response(self, delivery: Delivery) -> None:
        """Send the rest of a response, then close the response's connection."""
        now = self._clock()
        self._add(SlowReader(delivery, now, now))

    def keep(self, kept: KeptConnection) -> None:
        """Wait for the next request of a connection, and repeat the response if possible."""
        kept.connection.setblocking(False)
        kept.until = self._clock() + KEEP_S
        self._add(kept)

    def close_later(self, connection: socket.socket, patience: float, drain: float = 0.0) -> None:
        """Close a connection after the client has closed it, or after *patience* seconds.

        If *drain* is set, first read and discard bytes from the client for up to *drain* seconds:
        the client may still be sending its request body.
        """
        connection.setblocking(False)
        closing = LingeringClose(connection, self._clock() + (drain or patience))
        if drain:
            closing.left = self._limits.drained
        else:
            closing.shut()
        self._add(closing)

    @contextmanager
    def watch_body(self, connection: socket.socket) -> Iterator[ReceivedBody]:
        """Register a request body that the calling thread is reading.

        If more request bodies arrive at once than the limit allows, the poller cuts off the slowest
        bodies: it sets `is_cut`, and the blocked read returns.
        """
        body = ReceivedBody(connection, self._clock())
        with self._lock:
            self._bodies.add(body)
        if self._has_many_bodies():
            self._wake()
        try:
            yield body
        finally:
            with self._lock:
                self._bodies.discard(body)

    def _has_many_bodies(self) -> bool:
        return len(self._bodies) > self._limits.bodies

    def _add(self, each: Polled) -> None:
        self._handed_over.append(each)
        self._wake()

    def _wake(self) -> None:
        """Let the polling thread check its connections; start the thread if it is not running."""
        self._start()
        # If the pipe is full, its bytes wake the polling thread anyway.
        with suppress(OSError):
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
                for key, _ in poller.select(self._pause()):
                    if key.data is None:
                        with suppress(BlockingIOError):
                            os.read(waker, 4096)
                    else:
                        self._try(self._continue, poller, key.data)
                while self._handed_over:
                    self._try(self._begin, poller, self._handed_over.popleft())
                if time.monotonic() - looked >= self._tick:
                    looked = time.monotonic()
                    self._end_overdue(poller, self._clock())
                    self._end_slow(poller, self._clock())

    def _try(
        self,
        action: Callable[[selectors.BaseSelector, Polled], None],
        poller: selectors.BaseSelector,
        each: Polled,
    ) -> None:
        """Call *action* with a connection; any error closes only this connection.

        Otherwise one error would end the polling thread, and with it all other connections.
        """
        try:
            action(poller, each)
        except Exception:
            log.exception("connection closed after an error")
            with suppress(KeyError, ValueError, OSError):
                poller.unregister(each.connection)
            self._forget(each)
            each.close()

    def _pause(self) -> float | None:
        """Return the time until the next check in seconds, or None if there is nothing to check."""
        if self._readers or self._closings or self._has_many_bodies():
            return self._tick
        return _IDLE_TICKS * self._tick if self._kept else None

    def _begin(self, poller: selectors.BaseSelector, each: Polled) -> None:
        is_reader = isinstance(each, SlowReader)
        event = selectors.EVENT_WRITE if is_reader else selectors.EVENT_READ
        poller.register(each.connection, event, each)
        self._note(each)

    def _note(self, each: Polled) -> None:
        if isinstance(each, SlowReader):
            self._readers.add(each)
        elif isinstance(each, KeptConnection):
            self._kept.add(each)
        else:
            self._closings.add(each)

    def _forget(self, each: Polled) -> None:
        if isinstance(each, SlowReader):
            self._readers.discard(each)
        elif isinstance(each, KeptConnection):
            self._kept.discard(each)
        else:
            self._closings.discard(each)

    def _continue(self, poller: selectors.BaseSelector, each: Polled) -> None:
        if isinstance(each, KeptConnection):
            self._answer(poller, each)
        elif isinstance(each, SlowReader):
            self._push(poller, each)
        elif not each.drain():
            self._close(poller, each)

    def _answer(self, poller: selectors.BaseSelector, kept: KeptConnection) -> None:
        """Repeat the response to a request that equals an earlier one, else call `handle`."""
        request = kept.read()
        if request is None:
            return
        try:
            rest = self.repeats.answer(request, kept.connection) if request else None
        except OSError:
            rest = None
        if rest is None:
            self._close(poller, kept)
        elif isinstance(rest, Delivery):
            now = self._clock()
            self._become(poller, kept, SlowReader(rest, now, now, kept))
        elif rest:
            kept.until = self._clock() + KEEP_S
        else:
            poller.unregister(kept.connection)
            self._forget(kept)
            kept.handle(request)

    def _push(self, poller: selectors.BaseSelector, reader: SlowReader) -> None:
        """Send as much of the current piece as the client accepts now."""
        try:
            is_sent = reader.delivery.push()
            # A repeated response has only one piece, after which `send` closes its file.
            if is_sent and reader.kept is not None:
                reader.delivery.send(0.0)
        except ConnectionError:
            self._close(poller, reader)
            return
        reader.seen = self._clock()
        if not is_sent:
            return
        if reader.kept is not None:
            reader.kept.until = reader.seen + KEEP_S
            self._become(poller, reader, reader.kept)
        else:  # Getting the next piece of the body may block, so a worker thread does that.
            poller.unregister(reader.connection)
            self._forget(reader)
            self._run(lambda: self._send(reader))

    def _send(self, reader: SlowReader) -> None:
        """Continue a response in a worker thread, until it ends or the client is slow again."""
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

    def _become(self, poller: selectors.BaseSelector, each: Polled, other: Polled) -> None:
        """Poll *other*, which has the same connection, in place of *each*."""
        self._forget(each)
        event = selectors.EVENT_WRITE if isinstance(other, SlowReader) else selectors.EVENT_READ
        poller.modify(other.connection, event, other)
        self._note(other)

    def _close(self, poller: selectors.BaseSelector, each: Polled) -> None:
        poller.unregister(each.connection)
        self._forget(each)
        each.close()

    # ---- methods that close connections which are overdue or too slow

    def _end_overdue(self, poller: selectors.BaseSelector, now: float) -> None:
        for closing in [each for each in self._closings if each.until <= now]:
            if closing.is_shut:
                self._close(poller, closing)
            else:
                closing.shut()
                closing.until = now + _GRACE_S
        for kept in [each for each in self._kept if each.until <= now]:
            self._close(poller, kept)
        for reader in [each for each in self._readers if now - each.seen > _SILENCE_S]:
            self._close(poller, reader)

    def _end_slow(self, poller: selectors.BaseSelector, now: float) -> None:
        """If a limit is exceeded, close the slowest connections, but none that is new or fast."""
        over = len(self._readers) - self._limits.readers
        for reader in self._slowest(self._readers, over, now):
            self._close(poller, reader)
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
