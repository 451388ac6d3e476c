"""The cleaner as a thread in somebody's own process (docs/library.md), made of plain values.

Every process that serves one data directory has such a thread, and one of them cleans: the one
that holds the lock. The others wait for their turn.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from entrepot.cleaner.hosted.retention import RetentionRules, everything
from entrepot.cleaner.loop import RoundLoop, period
from entrepot.cleaner.maintenance.index_inspection import Inspection
from entrepot.cleaner.maintenance.jobs import Jobs
from entrepot.cleaner.maintenance.readers import Listeners, Readers
from entrepot.cleaner.maintenance.schedule import Maintenance, Tools
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.cleaner.wake_socket import WakeSocket, ring
from entrepot.datastore import layout
from entrepot.datastore.access import SOON_S
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.locks import try_lock
from entrepot.datastore.rebuild import needs_rebuild
from entrepot.runtime.clock import Clock

log = logging.getLogger(__name__)

_TURN_S = 1.0
_PATIENCE_S = 10.0
_LOCK = "cleaner.lock"
_BELL = "cleaner.sock"


class Cleaner:
    """Keeps what an application stores within bounds; give it to `create_app`.

    *max_size* is in bytes, 0 for no limit, with *threshold* per cent of room above it. What was
    not used for *ttl* s goes, 0 for never; with *hosted* what was pushed goes too, or else as
    *rules* say. It looks every so many s, and when room is short; what is pushed and nobody names
    goes after *garbage* s.
    """

    def __init__(
        self,
        *,
        max_size: int = 0,
        ttl: float = 0,
        threshold: int = 20,
        hosted: bool = False,
        rules: RetentionRules | None = None,
        every: float = 1800.0,
        garbage: float = 86400.0,
    ) -> None:
        self.budget = Budget(max_size, threshold)
        self._ttl = ttl
        pushed = everything(ttl)
        self._rules = rules or (RetentionRules(otherwise=pushed) if hosted else RetentionRules())
        self._every = every
        self._garbage = garbage
        self._stop = threading.Event()
        self._state: Path | None = None
        self._thread = threading.Thread()

    def start(self, root: Path, index: AccessIndex, settle: Callable[[], bool]) -> None:
        """Begin to clean below *root*, in a thread; *settle* brings all uses into the index."""
        self._stop = threading.Event()
        self._state = root / "entrepot"
        spool = self._state / layout.SPOOL
        clock = Clock(self._state / layout.CLOCK)
        store = DataDirectory(Filesystem(root, clock), index, spool)
        work = _Work(store, settle, clock, self._stop, self._bounds())
        self._thread = threading.Thread(
            target=self._keep, args=(work, self._state), name="cleaner", daemon=True
        )
        self._thread.start()

    def wake(self, needs: int) -> None:
        """Have whichever process cleans make room for *needs* bytes; 0 is a mere hint."""
        if self._state is not None:
            with suppress(OSError), _short(self._state) as folder:
                ring(folder / _BELL, needs)

    def stop(self) -> None:
        """End; what is being removed is removed."""
        self._stop.set()
        self.wake(0)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def _bounds(self) -> StoreLimits:
        budget = self.budget
        return StoreLimits(self._ttl, budget.target, budget.start, budget.room)

    def _keep(self, work: _Work, state: Path) -> None:
        """Clean whenever it is this process's turn, until stopped."""
        while not self._stop.is_set():
            try:
                with _turn(state) as mine:
                    if mine:
                        self._clean(work, state)
            except (DatastoreError, OSError) as error:
                log.warning("cleaning put off", extra={"error": error})
            self._stop.wait(_TURN_S)

    def _clean(self, work: _Work, state: Path) -> None:
        rounds = Rounds(work.hands(), work.bounds, self._rules)
        house = Maintenance(work.tools(lambda: self.wake(0)), self._every, self._garbage)
        spans = [span for span in (self._ttl, self._rules.shortest()) if span]
        every = period(self._every, min(spans, default=0))
        Inspection(work.index, lambda: self.wake(0)).start(self._stop)
        jobs = Jobs(list(house.jobs()), time.monotonic)
        work.readers().start()
        with _short(state) as folder, WakeSocket(folder / _BELL) as wake:
            RoundLoop(rounds.run, jobs, wake.wait, self._stop.is_set, every).run()


class _Work:
    """What one process cleans with."""

    def __init__(
        self,
        store: DataDirectory,
        settle: Callable[[], bool],
        clock: Clock,
        stop: threading.Event,
        bounds: StoreLimits,
    ) -> None:
        self.bounds = bounds
        self._clock = clock
        self._store = store
        self._stop = stop
        self._barrier = _News(settle, stop.wait)
        self._spool = Spool(store, clock)
        self._sweep = Sweep(store, lambda _: None, clock)

    @property
    def index(self) -> AccessIndex:
        """The index of the data directory."""
        return self._store.index

    def hands(self) -> RoundTools:
        """Return what a round works with."""
        return RoundTools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            barrier=self._barrier,
            clock=self._clock,
            stopped=self._stop.is_set,
            is_ready=lambda: not needs_rebuild(self._store.index),
        )

    def readers(self) -> Readers:
        """Return what reads new content once more."""
        return Readers(self._store, self._clock, self._stop, Listeners())

    def tools(self, wake: Callable[[], None]) -> Tools:
        """Return what the chores work with."""
        return Tools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            clock=self._clock,
            stopped=self._stop.is_set,
            wake=wake,
            room=self.bounds.room,
        )


class _News:
    """Whether every use until now is known: this process's, and by now the others' too."""

    blind = 0.0

    def __init__(self, settle: Callable[[], bool], pause: Callable[[float], bool]) -> None:
        self._settle = settle
        self._pause = pause

    def fetch(self) -> str:
        """Return what is wrong with the news; nothing when it is good."""
        if self._pause(2 * SOON_S):
            return "it is ending"
        return "" if self._settle() else "the index does not answer"


@contextmanager
def _turn(state: Path) -> Iterator[bool]:
    """Say whether this process is the one that cleans. Raises: StorageFull, StorageBroken."""
    with try_lock(state / _LOCK) or nullcontext() as held:
        yield held is not None


@contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """Give a folder a name that is short enough for a socket in it, which ends at 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
