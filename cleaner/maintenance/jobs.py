"""Run maintenance jobs in a separate thread.

These jobs take a long time, because they read the whole data directory. A round of the cleaner must
not wait for them, because the round may have to free space for a waiting download.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrepot.datastore.errors import DatastoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A `Job` is a function that runs every `every` seconds.

    If `every` is 0, the function is called at each round, and decides itself whether it is due.
    """

    name: str
    every: float
    job: Callable[[], object]


class Jobs:
    """A `Jobs` runs jobs one after the other in a thread; *clock* returns monotonic time (s)."""

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        self._jobs = jobs
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._thread = threading.Thread()

    def start_due(self) -> None:
        """Start a thread with the jobs that are due; do nothing while an earlier thread runs."""
        due = [chore for chore in self._jobs if self._is_due(chore)]
        if not due or self._thread.is_alive():
            return
        self._begun |= {chore.name: self._clock() for chore in due}
        self._thread = threading.Thread(target=do, args=(due,), name="chores", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait up to *seconds* for the end of the running jobs."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _is_due(self, chore: Job) -> bool:
        begun = self._begun.get(chore.name)
        return begun is None or self._clock() - begun >= chore.every


def do(jobs: Sequence[Job]) -> None:
    """Run all jobs; if one fails, continue with the next."""
    for chore in jobs:
        attempt(chore.name, chore.job)


def attempt(name: str, job: Callable[[], object]) -> object:
    """Call *job* and return its result.

    After an error of the storage or the index, log a warning and return None. The job runs again
    when it is next due.
    """
    try:
        return job()
    except (DatastoreError, OSError) as error:
        log.warning("maintenance job failed", extra={"job": name, "error": error})
        return None
