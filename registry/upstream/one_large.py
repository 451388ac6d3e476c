"""Bound the share of a worker's time that large documents of upstreams can take.

The interpreter runs one thread at a time, and a document of megabytes keeps it busy for up to 0.1
seconds. If several threads parsed large documents at once, or one after another without a pause,
every other request of the worker would wait for the parsing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.registry.fair_queue import FairQueue

_LARGE = 128 * 1024
"""A document of at least this many bytes is large.

Nearly all manifests are smaller; small documents never wait.
"""

_PAUSE = 2
"""The pause after a large document lasts this many times the CPU time that the document took."""

# At most this many threads wait for their turn, and at most half as many for one upstream.
_WAITING = 512
_PATIENCE_S = 30.0
_BUSY = "too many large responses of upstreams are being read; retry later"


class LargeDocuments:
    """A `LargeDocuments` admits one large document at a time, with a pause after each document.

    The pause is twice as long as the CPU time of the document. So large documents take at most a
    third of the worker's time. If documents of several upstreams wait, the upstreams take turns.
    *clock* is a monotonic clock, *spent* returns the CPU time of the calling thread, and *wait*
    waits for a duration; all times are in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._spent = spent
        self._wait = wait
        self._queue = FairQueue(1, waiting=_WAITING, each=_WAITING // 2, busy=_BUSY)
        self._next = 0.0  # The end of the pause; only the thread that has its turn uses it.

    @contextmanager
    def turn(self, host: str, body: bytes) -> Iterator[None]:
        """Wait until *body*, a document of the upstream *host*, may be parsed.

        A small document never waits. The block of this context must only parse the document, which
        takes less than 1 s. Raises: Overloaded if too many large documents wait, or after 30 s.
        """
        if len(body) < _LARGE:
            yield
            return
        with self._queue.turn(host, _PATIENCE_S):
            if (pause := self._next - self._clock()) > 0:
                self._wait(pause)
            before = self._spent()
            try:
                yield
            finally:
                self._next = self._clock() + _PAUSE * (self._spent() - before)


one_large = LargeDocuments().turn
