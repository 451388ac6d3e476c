"""Notes for all workers that an upstream has just answered for a blob under a name.

Whoever follows a download under the name that it was begun under need not ask again. The notes lie
beside the locks of the spool folder; the cleaner removes those that were left.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.registry.download.task import Task

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
        return self.folder / f"shown-{task.key.hex}-{layout.short(Repository(task.repository))}"
