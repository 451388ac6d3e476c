"""Notes for all workers that an upstream has just answered for a blob under a name.

Whoever follows a download under the name that it was begun under need not ask again. The notes lie
beside the locks of the spool folder; the cleaner removes those that were left.
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
from entrepot.runtime.clock import elapsed

_MOST = 10_000


class NegativeCache:
    """The 404s of one worker, by repository and reference."""

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def check(self, resolved: ResolvedRepository, reference: object) -> None:
        """Raises: Absent while the last 404 is still remembered."""
        until = self._until.get((resolved.repository.name, str(reference)))
        if until is not None and self._clock() < until:
            raise Absent(resolved.host, f"has no {resolved.remote} {reference}, it said just now")

    def remember(self, resolved: ResolvedRepository, reference: object) -> None:
        """Keep a 404 for as long as the upstream's operator said, from the first one on."""
        ttl = resolved.upstream.config.negative_ttl if resolved.upstream else 0
        key = (resolved.repository.name, str(reference))
        with self._lock:
            if len(self._until) >= _MOST:
                self._until.clear()
            if self._until.get(key, 0.0) <= self._clock():
                self._until[key] = self._clock() + ttl


_STANDS_S = 300.0
"""How long one answer stands for all who follow, in s."""


@dataclass(frozen=True, slots=True)
class RecentAnswers:
    """The notes in *folder*."""

    folder: Path

    def note(self, task: Task) -> None:
        """Note that the upstream has just answered for a blob under the task's name."""
        path = self._path(task)
        with suppress(OSError):  # whoever follows then asks
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def was_just_now(self, task: Task) -> bool:
        """Return whether that was a moment ago, in any worker."""
        try:
            age = time.time() - self._path(task).stat().st_mtime
        except OSError:
            return False
        return -1.0 <= age < _STANDS_S  # file times are coarse

    def forget(self, task: Task) -> None:
        """Forget it: the blob is linked now."""
        with suppress(OSError):
            self._path(task).unlink(missing_ok=True)

    def _path(self, task: Task) -> Path:
        return (
            self.folder / f"shown-{task.key.hex}-{layout.short_name(Repository(task.repository))}"
        )
