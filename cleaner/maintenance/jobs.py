"""Long work beside the rounds: walks over all that is here, for which no download may wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrepot.datastore.errors import DatastoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is done again after `every` s; one of 0 s looks itself whether it is due."""

    name: str
    every: float
    job: Callable[[], object]


class Jobs:
    """Done one after the other, in a thread that does not keep the process from ending.

    `clock` gives s of any clock that does not go back.
    """

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        self._jobs = jobs
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._thread = threading.Thread()

    def start_due(self) -> None:
        """Begin what is due, if nothing is being done."""
        due = [chore for chore in self._jobs if self._is_due(chore)]
        if not due or self._thread.is_alive():
            return
        self._begun |= {chore.name: self._clock() for chore in due}
        self._thread = threading.Thread(target=do, args=(due,), name="chores", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for what is being done, at most so many s."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _is_due(self, chore: Job) -> bool:
        begun = self._begun.get(chore.name)
        return begun is None or self._clock() - begun >= chore.every


def do(jobs: Sequence[Job]) -> None:
    """Do each of them, whatever becomes of the others."""
    for chore in jobs:
        attempt(chore.name, chore.job)


def attempt(name: str, job: Callable[[], object]) -> object:
    """Return what a job returns; None when disk or index refused: it is done again later."""
    try:
        return job()
    except (DatastoreError, OSError) as error:
        log.warning("not done", extra={"job": name, "error": error})
        return None
