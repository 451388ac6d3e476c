"""Remember recent responses of upstreams: 404s, and confirmations that a repository has a blob.

If several clients request the same content, a remembered response saves a request to the upstream.
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
    """A `NegativeCache` remembers recent 404 responses of upstreams by repository and reference.

    Each worker has one `NegativeCache` for blobs and one for manifests.
    """

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._until: BoundedDict[tuple[str, str], float] = BoundedDict(_MAX_ENTRIES)
        self._lock = threading.Lock()

    def check(self, resolved: ResolvedRepository, reference: object) -> None:
        """Raise Absent if the upstream recently responded with 404 for *reference*."""
        until = self._until.get((resolved.repository.name, str(reference)))
        if until is not None and self._clock() < until:
            message = (
                f"the upstream responded a moment ago that it has no {resolved.remote} {reference}"
            )
            raise Absent(resolved.host, message)

    def remember(self, resolved: ResolvedRepository, reference: object) -> None:
        """Remember a 404 for the upstream's `negative_ttl`; a repeated 404 adds no time."""
        ttl = resolved.upstream.config.negative_ttl if resolved.upstream else 0
        key = (resolved.repository.name, str(reference))
        with self._lock:
            if self._until.get(key, 0.0) <= self._clock():
                self._until.keep(key, self._clock() + ttl)


_VALID_S = 300.0
"""A confirmation is valid for all readers of a download for this many seconds."""


@dataclass(frozen=True, slots=True)
class RecentConfirmations:
    """A `RecentConfirmations` records the upstreams' confirmations that a repository has a blob.

    Each confirmation is a file in *folder*, which all workers see. A client that joins a download
    gets bytes only if the upstream has the blob in the client's repository. The worker asks the
    upstream, unless there is a confirmation for that repository. The cleaner removes old
    confirmations.
    """

    folder: Path

    def note(self, task: Task) -> None:
        """Record that the upstream has just confirmed a blob in the task's repository."""
        path = self._path(task)
        # If the confirmation is not recorded, each reader sends its own request.
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def is_recent(self, task: Task) -> bool:
        """Return True if a worker recorded a confirmation for the task's repository recently."""
        try:
            age = time.time() - self._path(task).stat().st_mtime
        except OSError:
            return False
        # File times are coarse, so the computed age may be slightly negative.
        return -1.0 <= age < _VALID_S

    def forget(self, task: Task) -> None:
        """Remove the confirmation, because the repository links the blob now."""
        with suppress(OSError):
            self._path(task).unlink(missing_ok=True)

    def _path(self, task: Task) -> Path:
        return (
            self.folder / f"shown-{task.key.hex}-{layout.short_name(Repository(task.repository))}"
        )
