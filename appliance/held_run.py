"""Keep the run directory locked while the appliance runs, and remove it when the appliance exits.

`entrepot serve` creates the run directory, and then replaces itself by the smaller program
appliance/main_loop.py with execve(2). The locks stay valid after execve(2). The smaller program
avoids loading `entrepot.config`, so this module imports nothing of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_REMOVALS = 5  # The removal of a folder that another process uses is tried at most this many times.


@dataclass(frozen=True, slots=True)
class HeldRunDirectory:
    """A `HeldRunDirectory` is the run directory `path`, with the open file descriptors of locks.

    `state_lock` locks the state directory, and `run_lock` the run directory. `note` is the file
    `run` in the state directory, which contains the path of the run directory, and `note_lock`
    locks this file. If the file could not be created because the disk is full or read-only,
    `note_lock` is -1.
    """

    path: Path
    run_lock: int
    state_lock: int
    note: Path
    note_lock: int

    def keep_at_exec(self, *, is_kept: bool) -> None:
        """Make a later execve(2) keep the locks if *is_kept* is true, or else release them."""
        for lock in self._locks():
            os.set_inheritable(lock, is_kept)

    def release(self) -> None:
        """Remove the run directory, and release all locks. Call this method only once."""
        # If the note cannot be deleted, the next start overwrites its content.
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
    """Remove a folder; try again if another process creates a file in it meanwhile.

    For example, `entrepot status` creates a file in the run directory to request the state.
    """
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _leads_to(path: Path, descriptor: int) -> bool:
    return os.path.samestat(path.stat(), os.fstat(descriptor))
