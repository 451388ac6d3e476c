"""Cache the sorted names in large folders until the folder changes.

Without the cache of listings, each page of a repository's ten thousand tags would read and sort all
names.
"""
# ruff: noqa: PTH116, PTH208
# PERF: this module uses plain os calls, as drivers/filesystem.py does.

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from entrepot.runtime.bounded_dict import BoundedDict

_LARGE = 500  # number of names: smaller folders are not cached
_MOST = 32
_SETTLED_S = 2.0  # Two changes within one tick of the file system's clock look like one change.


@dataclass(frozen=True, slots=True)
class _Listing:
    """A `_Listing` has the sorted names of a folder, with its inode and its time of change (ns)."""

    names: tuple[str, ...]
    inode: int
    changed: int


class FolderListings:
    """A `FolderListings` caches the folders of one process.

    The least recently read folder is dropped first.
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
