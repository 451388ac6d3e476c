"""The long work of one data directory, chore by chore, from plain values."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from cleaner.chores import Chore
from cleaner.collect import Collector
from cleaner.garbage import Garbage
from cleaner.hosted import Hosted
from cleaner.leftovers import Leftovers
from cleaner.links import Links
from cleaner.retention import Rules
from cleaner.running import promise_again
from cleaner.spool import Spool
from cleaner.stock import Stock
from cleaner.store import Store
from cleaner.sweep import Sweep
from cleaner.unlink import Unlinker
from datastore.rebuild import needs_rebuild, rebuild
from runtime.clock import Ages

_DAILY_S = 24 * 3600


class _Stopped(Exception):  # noqa: N818 - it is no error
    """The end of the process came before the end of a chore."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the work is done with; `stopped` ends it between two steps, `wake` wants a round.

    `room` is the most that the index may promise, in bytes.
    """

    store: Store
    spool: Spool
    sweep: Sweep
    clock: Ages
    stopped: Callable[[], bool]
    wake: Callable[[], None]
    room: int | None = None


class Housekeeping:
    """Does the chores *every* so many s; what nobody names is garbage after *garbage* s."""

    def __init__(self, tools: Tools, every: float, garbage: float) -> None:
        self._tools = tools
        self._store = tools.store
        self._every = every
        self._grace = garbage
        self._settled = -math.inf

    def chores(self) -> Iterator[Chore]:
        """Yield all of them."""
        every, tools = self._every, self._tools
        leftovers = Leftovers(self._store, tools.clock, tools.stopped)
        yield Chore("settle", 0, self.settle)
        yield Chore("spool", every, tools.spool.purge)
        yield Chore("links", every, Links(self._store, tools.clock, tools.stopped).sweep)
        yield Chore("garbage", every, self._collect_garbage)
        yield Chore("unfinished files", _DAILY_S, leftovers.purge_unfinished)

    def settle(self) -> None:
        """Bring index and storage in line: at the start, each day, and when the index was lost."""
        is_due = time.monotonic() - self._settled > _DAILY_S
        if is_due or needs_rebuild(self._store.index):
            with suppress(_Stopped):
                promise_again(self._store, self._tools.room, self._tools.clock())
                rebuild(self._store.storage, self._store.index, self._tools.clock(), self._go_on)
                self._settled = time.monotonic()
                self._tools.wake()

    def garbage(self) -> Garbage:
        """Return what finds what nobody names."""
        return Garbage(self._store, self._grace, self._tools.clock)

    def stock(self, rules: Rules) -> Stock:
        """Return what was pushed, and by *rules* may go."""
        return Stock(Hosted(self._store), rules, self._tools.clock)

    def collector(self) -> Collector:
        """Return what takes garbage away."""
        unlinker = Unlinker(self._store, Hosted(self._store))
        return Collector(self._store, self._tools.sweep, unlinker, self._tools.stopped)

    def _collect_garbage(self) -> None:
        if not needs_rebuild(self._store.index):
            self.collector().run(self.garbage(), self.stock(Rules()))

    def _go_on(self) -> None:
        if self._tools.stopped():
            raise _Stopped
