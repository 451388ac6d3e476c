"""Connections whose thread has gone on: slow readers, and clients that still send.

One thread of each worker looks after all of them with a poller. A slow reader gets the rest of its
answer as it takes it, for as long as it likes while there is room for others. A client whose
request was answered before its end has a moment to stop sending, or it would not read the answer.
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
"""Between two looks for what is too slow, in s."""

_PIECE = 256 * 1024
_GRACE_S = 2.0  # nothing is slow before this age
_SILENCE_S = 330.0  # HAProxy ends what is silent for 300 s; a client without it is ended here


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a worker bears: `readers` handed over, `bodies` received, before slow ones are ended.

    Slow is less than `rate` bytes a second since it began. `drained` is in bytes.
    """

    readers: int = 1536
    bodies: int = 144
    rate: float = 10 * 1024
    drained: int = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Receiving:
    """A request's body that a thread reads: `received` bytes since `began` (s, monotonic)."""

    connection: socket.socket
    began: float
    received: int = 0
    is_cut: bool = False

    def rate(self, now: float) -> float:
        """Return the bytes that come in a second."""
        return self.received / max(now - self.began, 1.0)


@dataclass(slots=True, eq=False)
class _Reader:
    """A delivery without a thread, since `began`; `seen` is when it last took something."""

    delivery: Delivery
    began: float
    before: int
    seen: float

    def rate(self, now: float) -> float:
        """Return the bytes that it takes a second."""
        return (self.delivery.sent - self.before) / max(now - self.began, 1.0)


@dataclass(slots=True, eq=False)
class _Parting:
    """A connection that ends at `until`; `left` bytes are read of what the client still sends."""

    connection: socket.socket
    until: float
    left: int
    is_shut: bool = False


_Timed = TypeVar("_Timed", Receiving, _Reader)


class Aftercare:
    """Looks after what has no thread; *run* calls a function in one of the worker's threads.

    *limited* is told of each connection that was ended because it was too slow: "readers" or
    "bodies". The thread starts with the first that is handed over.
    """

    def __init__(
        self,
        run: Callable[[Callable[[], None]], None],
        bounds: ConnectionLimits,
        limited: Callable[[str], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick: float = TICK_S,
    ) -> None:
        self._run = run
        self._bounds = bounds
        self._limited = limited
        self._clock = clock
        self._tick = tick
        self._coming: deque[_Reader | _Parting] = deque()
        self._receiving: set[Receiving] = set()
        self._readers: set[_Reader] = set()
        self._partings: set[_Parting] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waker = -1

    # ---- what is handed over, by any thread

    def take(self, delivery: Delivery) -> None:
        """Send the rest of an answer, then close its connection."""
        now = self._clock()
        self._add(_Reader(delivery, now, delivery.sent, now))

    def part(self, connection: socket.socket, patience: float, drain: float = 0.0) -> None:
        """Close a connection once the client has closed it, after *patience* s at the latest.

        For *drain* s what the client sends is read first: it may still be sending.
        """
        until = self._clock() + (drain or patience)
        left = self._bounds.drained if drain else _PIECE
        connection.setblocking(False)
        parting = _Parting(connection, until, left)
        if not drain:
            _shut(parting)
        self._add(parting)

    @contextmanager
    def receiving(self, connection: socket.socket) -> Iterator[Receiving]:
        """Watch over a body that a thread reads; it is cut when it is slow and others wait."""
        body = Receiving(connection, self._clock())
        with self._lock:
            self._receiving.add(body)
        if len(self._receiving) > self._bounds.bodies:
            self._start()
        try:
            yield body
        finally:
            with self._lock:
                self._receiving.discard(body)

    def _add(self, each: _Reader | _Parting) -> None:
        self._coming.append(each)
        self._start()
        with suppress(OSError):  # so many wake it already
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
                    target=self._look_after, args=(reader,), name="aftercare", daemon=True
                )
                self._thread.start()

    # ---- the thread

    def _look_after(self, waker: int) -> None:
        with selectors.DefaultSelector() as poller:
            poller.register(waker, selectors.EVENT_READ)
            looked = time.monotonic()
            while True:
                for key, _ in poller.select(self._tick):
                    if key.data is None:
                        with suppress(BlockingIOError):
                            os.read(waker, 4096)
                    else:
                        self._go_on(poller, key.data)
                while self._coming:
                    self._begin(poller, self._coming.popleft())
                if time.monotonic() - looked >= self._tick:
                    looked = time.monotonic()
                    self._end_overdue(poller, self._clock())
                    self._end_slow(poller, self._clock())

    def _begin(self, poller: selectors.BaseSelector, each: _Reader | _Parting) -> None:
        if isinstance(each, _Parting):
            self._partings.add(each)
            poller.register(each.connection, selectors.EVENT_READ, each)
        else:
            self._readers.add(each)
            poller.register(each.delivery.connection, selectors.EVENT_WRITE, each)

    def _go_on(self, poller: selectors.BaseSelector, each: _Reader | _Parting) -> None:
        if isinstance(each, _Parting):
            if not _drain(each):
                self._forget(poller, each)
            return
        try:
            is_sent = each.delivery.push()
        except ConnectionError:
            self._forget(poller, each)
            return
        each.seen = self._clock()
        if is_sent:  # the next piece may have to be waited for: that is for a thread
            poller.unregister(each.delivery.connection)
            self._readers.discard(each)
            self._run(lambda: self._send(each))

    def _send(self, reader: _Reader) -> None:
        """Go on in a thread, until the end or until the client takes nothing again."""
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
                self.part(delivery.connection, _GRACE_S)
            else:
                self._add(reader)

    def _forget(self, poller: selectors.BaseSelector, each: _Reader | _Parting) -> None:
        connection = each.connection if isinstance(each, _Parting) else each.delivery.connection
        poller.unregister(connection)
        connection.close()
        if isinstance(each, _Parting):
            self._partings.discard(each)
        else:
            self._readers.discard(each)
            each.delivery.close()

    # ---- what is not waited for any longer

    def _end_overdue(self, poller: selectors.BaseSelector, now: float) -> None:
        for parting in [each for each in self._partings if each.until <= now]:
            if parting.is_shut:
                self._forget(poller, parting)
            else:
                _shut(parting)
                parting.until = now + _GRACE_S
        for reader in [each for each in self._readers if now - each.seen > _SILENCE_S]:
            self._forget(poller, reader)

    def _end_slow(self, poller: selectors.BaseSelector, now: float) -> None:
        """End the slowest where there are more than the bounds bear, and only the slow ones."""
        over = len(self._readers) - self._bounds.readers
        for reader in self._slowest(self._readers, over, now):
            self._forget(poller, reader)
            self._limited("readers")
        with self._lock:
            bodies = [each for each in self._receiving if not each.is_cut]
        over = len(bodies) - self._bounds.bodies
        for body in self._slowest(bodies, over, now):
            body.is_cut = True
            self._limited("bodies")
            with suppress(OSError):
                body.connection.shutdown(socket.SHUT_RD)

    def _slowest(self, found: Iterable[_Timed], over: int, now: float) -> list[_Timed]:
        if over <= 0:
            return []
        rates = [(each.rate(now), each) for each in found if now - each.began > _GRACE_S]
        slow = sorted((each for each in rates if each[0] < self._bounds.rate), key=itemgetter(0))
        return [each for _, each in slow[:over]]


def _shut(parting: _Parting) -> None:
    parting.is_shut = True
    with suppress(OSError):
        parting.connection.shutdown(socket.SHUT_WR)


def _drain(parting: _Parting) -> bool:
    """Read what has come; False when the client has closed, or sends too much."""
    try:
        came = len(parting.connection.recv(min(_PIECE, parting.left + 1)))
    except BlockingIOError:
        return True
    except OSError:
        return False
    parting.left -= came
    return came > 0 and parting.left >= 0
