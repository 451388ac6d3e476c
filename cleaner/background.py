"""Run the cleaner as a thread of a program that embeds the registry (docs/library.md).

The arguments of `Cleaner` are plain values, because an embedded registry has no settings of the
appliance. Each process that serves a data directory starts this thread. Only the thread that has
the lock `cleaner.lock` cleans; the threads of the other processes wait for the lock.
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
from entrepot.datastore.accesslog import ACCESS_DELAY_S
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import on_disk, open_storage
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import Index
from entrepot.datastore.locks import try_lock
from entrepot.datastore.rebuild import needs_rebuild
from entrepot.runtime.clock import Clock
from entrepot.runtime.run_names import WAKE_SOCKET

log = logging.getLogger(__name__)

_LOCK_RETRY_S = 1.0
_JOIN_S = 10.0
_LOCK = "cleaner.lock"


class Cleaner:
    """A `Cleaner` keeps the data directory of an application within its limits.

    Pass it to `create_app`, which starts it. *max_size* is in bytes; 0 means that there is no
    limit. *threshold* is the percentage by which the data directory can temporarily exceed
    *max_size*. Content that was not used for *ttl* seconds is evicted; 0 means that content is not
    evicted for its age. If *hosted* is set, hosted images are evicted by the same limits as proxied
    content. If *rules* are given, they apply to hosted images, and *hosted* is ignored. A round
    runs at least every *every* seconds, and also when space is short. Hosted content that no
    manifest references is removed if it was not used for *garbage* seconds.
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
        like_proxied = everything(ttl)
        self._rules = rules or (
            RetentionRules(otherwise=like_proxied) if hosted else RetentionRules()
        )
        self._every = every
        self._garbage = garbage
        self._stop = threading.Event()
        self._state: Path | None = None
        self._thread = threading.Thread()

    def start(self, root: Path, index: Index, settle: Callable[[], bool]) -> None:
        """Start a thread that cleans the data directory *root*.

        *settle* writes to the index all accesses that this process has not written yet. *settle*
        returns False if the index is unavailable.
        """
        self._stop = threading.Event()
        self._state = root / "entrepot"
        spool = self._state / layout.SPOOL
        clock = Clock(self._state / layout.CLOCK)
        store = DataDirectory(open_storage(on_disk(root), clock), index, spool)
        work = _Work(store, settle, clock, self._stop, self._bounds())
        self._thread = threading.Thread(
            target=self._clean_when_locked, args=(work, self._state), name="cleaner", daemon=True
        )
        self._thread.start()

    def wake(self, needs: int) -> None:
        """Wake the thread that cleans, perhaps in another process, so that it frees *needs* bytes.

        If *needs* is 0, the thread only starts a round.
        """
        if self._state is not None:
            with suppress(OSError), _short_path(self._state) as folder:
                ring(folder / WAKE_SOCKET, needs)

    def stop(self) -> None:
        """Make the thread exit after its current removal, and wait up to 10 s for its exit."""
        self._stop.set()
        self.wake(0)
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _bounds(self) -> StoreLimits:
        budget = self.budget
        return StoreLimits(self._ttl, budget.target, budget.start, budget.max_used_bytes)

    def _clean_when_locked(self, work: _Work, state: Path) -> None:
        """Wait for the lock `cleaner.lock`, then run rounds until `stop` is called."""
        while not self._stop.is_set():
            try:
                with _cleaner_lock(state) as is_locked:
                    if is_locked:
                        self._clean(work, state)
            except (DatastoreError, OSError) as error:
                log.warning("cleaning postponed", extra={"error": error})
            self._stop.wait(_LOCK_RETRY_S)

    def _clean(self, work: _Work, state: Path) -> None:
        rounds = Rounds(work.hands(), work.bounds, self._rules)
        maintenance = Maintenance(work.tools(lambda: self.wake(0)), self._every, self._garbage)
        ttls = [ttl for ttl in (self._ttl, self._rules.shortest()) if ttl]
        every = period(self._every, min(ttls, default=0))
        Inspection(work.index, lambda: self.wake(0)).start(self._stop)
        jobs = Jobs(list(maintenance.jobs()), time.monotonic)
        work.readers().start()
        with _short_path(state) as folder, WakeSocket(folder / WAKE_SOCKET) as wake_socket:
            RoundLoop(rounds.run, jobs, wake_socket.wait, self._stop.is_set, every).run()


class _Work:
    """A `_Work` creates the objects with which the thread cleans one data directory."""

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
        self._barrier = _Barrier(settle, stop.wait)
        self._spool = Spool(store, clock)
        self._sweep = Sweep(store, lambda _: None, clock)

    @property
    def index(self) -> Index:
        """Return the index of the data directory."""
        return self._store.index

    def hands(self) -> RoundTools:
        """Return the objects and functions that a round uses."""
        return RoundTools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            barrier=self._barrier,
            clock=self._clock,
            stopped=self._stop.is_set,
            is_ready=lambda: not needs_rebuild(self._store.index.notes),
        )

    def readers(self) -> Readers:
        """Return the object that starts the threads that verify stored content."""
        return Readers(self._store, self._clock, self._stop, Listeners())

    def tools(self, wake: Callable[[], None]) -> Tools:
        """Return the objects and functions that maintenance jobs use; *wake* starts a round."""
        return Tools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            clock=self._clock,
            stopped=self._stop.is_set,
            wake=wake,
            room=self.bounds.room,
        )


class _Barrier:
    """A `_Barrier` is the log barrier of an embedded registry, which has no access log.

    Each process writes its accesses to the index itself, at most `ACCESS_DELAY_S` after the
    response. The barrier waits for twice `ACCESS_DELAY_S`, so that the other processes have written
    their accesses. Then the barrier calls `settle`, which writes the accesses of this process.
    """

    blind = 0.0

    def __init__(self, settle: Callable[[], bool], pause: Callable[[float], bool]) -> None:
        self._settle = settle
        self._pause = pause

    def fetch(self) -> str:
        """Return why accesses may be missing from the index; empty if none can be missing."""
        if self._pause(2 * ACCESS_DELAY_S):
            return "the process is ending"
        return "" if self._settle() else "the index is unavailable"


@contextmanager
def _cleaner_lock(state: Path) -> Iterator[bool]:
    """Lock `cleaner.lock` during a `with` block if it is free; yield whether it was free.

    Raises: StorageFull, StorageBroken.
    """
    with try_lock(state / _LOCK) or nullcontext() as lock:
        yield lock is not None


@contextmanager
def _short_path(folder: Path) -> Iterator[Path]:
    """Yield a short path of *folder*, because the path of a unix socket has at most 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
