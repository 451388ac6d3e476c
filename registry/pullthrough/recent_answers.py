"""Keep recent answers of upstreams: 404 responses, and repositories that may read a blob.

Each kind of answer saves a request to the upstream when several clients request the same content.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import Absent
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.clock import elapsed

_MAX_ENTRIES = 10_000


class NegativeCache:
    """A `NegativeCache` has recent 404 responses of upstreams, by repository and reference.

    A `NegativeCache` belongs to one worker.
    """

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._until: BoundedDict[tuple[str, str], float] = BoundedDict(_MAX_ENTRIES)
        self._lock = threading.Lock()

    def check(self, resolved: ResolvedRepository, reference: object) -> None:
        """Raise Absent if the upstream responded with 404 recently."""
        until = self._until.get((resolved.repository.name, str(reference)))
        if until is not None and self._clock() < until:
            message = f"has no {resolved.remote} {reference}, as it answered just now"
            raise Absent(resolved.host, message)

    def remember(self, resolved: ResolvedRepository, reference: object) -> None:
        """Remember a 404 for the `negative_ttl` of the upstream, counted from the first 404."""
        ttl = resolved.upstream.config.negative_ttl if resolved.upstream else 0
        key = (resolved.repository.name, str(reference))
        with self._lock:
            if self._until.get(key, 0.0) <= self._clock():
                self._until.keep(key, self._clock() + ttl)


_VALID_S = 300.0
"""A confirmation is valid for all readers of the download for so many s."""


@dataclass(frozen=True, slots=True)
class RecentConfirmations:
    """Confirmations that an upstream has a blob in a repository, as empty files in *folder*.

    All workers see these confirmations. A reader that follows a download for a repository with a
    confirmation need not send a request of its own. The files of confirmations are beside the locks
    of the spool folder. The cleaner removes those that were left behind.
    """

    folder: Path

    def note(self, task: Task) -> None:
        """Record that the upstream has just confirmed a blob in the task's repository."""
        path = self._path(task)
        with suppress(OSError):  # without a confirmation each reader sends its own request
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def is_recent(self, task: Task) -> bool:
        """Return True if any worker recorded a confirmation recently."""
        try:
            age = time.time() - self._path(task).stat().st_mtime
        except OSError:
            return False
        return -1.0 <= age < _VALID_S  # file times are coarse: age may be slightly negative

    def forget(self, task: Task) -> None:
        """Remove the confirmation, because the blob is linked in the repository now."""
        with suppress(OSError):
            self._path(task).unlink(missing_ok=True)

    def _path(self, task: Task) -> Path:
        return (
            self.folder / f"shown-{task.key.hex}-{layout.short_name(Repository(task.repository))}"
        )
