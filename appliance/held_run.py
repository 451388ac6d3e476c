"""Hold the run directory: keep its locks open, also through execve(2), and remove it at the end.

`entrepot serve` creates the run directory with the modules of the configuration loaded, and then
executes a program without these modules in its place (appliance/main_loop.py). Therefore this
module imports nothing of `entrepot.config`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_REMOVALS = 5  # tries to remove a folder in which other processes create files


@dataclass(frozen=True, slots=True)
class HeldRunDirectory:
    """A `HeldRunDirectory` is the run directory `path`, with open descriptors that lock files.

    `state_lock` locks the state directory, and `run_lock` the run directory. `note` is the file
    with the path of the run directory, locked by `note_lock`; a full disk has no such file, and
    `note_lock` is -1 then.
    """

    path: Path
    run_lock: int
    state_lock: int
    note: Path
    note_lock: int

    def keep_at_exec(self, *, is_kept: bool) -> None:
        """Let execve(2) keep the locks, or close them."""
        for lock in self._locks():
            os.set_inheritable(lock, is_kept)

    def release(self) -> None:
        """Remove the run directory, and release all locks. The call must not be repeated."""
        # An error does not matter here: if the note stays, the next start overwrites its content.
        with suppress(OSError):
            if self.note_lock >= 0 and _leads_to(self.note, self.note_lock):
                self.note.unlink()
        os.close(self.run_lock)
        remove(self.path)
        for lock in (self.note_lock, self.state_lock):
            if lock >= 0:
                os.close(lock)

    def _locks(self) -> Iterator[int]:
        return (each for each in (self.run_lock, self.state_lock, self.note_lock) if each >= 0)


def remove(folder: Path) -> None:
    """Remove a folder; try again if another process creates a file in it during the removal.

    `entrepot status` creates a file in the run directory to request the appliance's state.
    """
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _leads_to(path: Path, descriptor: int) -> bool:
    return os.path.samestat(path.stat(), os.fstat(descriptor))
