"""Cache the sorted names in a large folder until the folder changes.

A repository can have ten thousand tags, which are the names in one folder. Without this cache, each
page of the list of tags would need to read and sort all names.
"""
# ruff: noqa: PTH116, PTH208
# PERF: this module calls `os` directly, as drivers/filesystem.py does, because pathlib is slower.

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from entrepot.runtime.bounded_dict import BoundedDict

_LARGE = 500  # A folder with fewer names than this is not cached.
_MOST = 32
# The clock of a file system advances in ticks. If a folder changes twice within one tick, its time
# shows only the first change. Therefore a folder whose last change is less than this many seconds
# ago is not cached.
_SETTLED_S = 2.0


@dataclass(frozen=True, slots=True)
class _Listing:
    """A `_Listing` has the sorted names of a folder, its inode and its time of change.

    The time of change is in nanoseconds.
    """

    names: tuple[str, ...]
    inode: int
    changed: int


class FolderListings:
    """A `FolderListings` caches the names in at most 32 folders, for one process.

    If more folders are listed, it drops the names that were read from the disk longest ago.
    """

    def __init__(self) -> None:
        self._cached: BoundedDict[str, _Listing] = BoundedDict(_MOST)
        self._lock = threading.Lock()

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted. Raises: OSError."""
        stat = os.stat(path)
        known = self._cached.get(path)
        if known and (known.inode, known.changed) == (stat.st_ino, stat.st_ctime_ns):
            return known.names
        names = tuple(sorted(os.listdir(path)))
        self._remember(path, _Listing(names, stat.st_ino, stat.st_ctime_ns))
        return names

    def _remember(self, path: str, listing: _Listing) -> None:
        is_settled = time.time() - listing.changed / 1e9 > _SETTLED_S
        with self._lock:
            self._cached.pop(path, None)
            if is_settled and len(listing.names) >= _LARGE:
                self._cached.keep(path, listing)
