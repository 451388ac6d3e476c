"""The names in large folders, remembered for as long as a folder is as it was.

A page of the ten thousand tags of a repository should not cost a look at all of them: what does
not change need not be read and sorted again.
"""
# ruff: noqa: PTH116, PTH208
# PERF: plain os calls, as in `filesystem`.

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

_LARGE = 500  # names from which on a folder is worth remembering
_MOST = 32
_SETTLED_S = 2.0  # a second change within one tick of the file system's clock would not show


@dataclass(frozen=True, slots=True)
class _Seen:
    """The sorted names of a folder that had this inode and was last changed then (ns)."""

    names: tuple[str, ...]
    inode: int
    changed: int


class FolderListings:
    """The folders that one process has seen; what was seen longest ago is forgotten first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted. Raises: OSError."""
        stat = os.stat(path)
        known = self._seen.get(path)
        if known and (known.inode, known.changed) == (stat.st_ino, stat.st_ctime_ns):
            return known.names
        names = tuple(sorted(os.listdir(path)))
        self._remember(path, _Seen(names, stat.st_ino, stat.st_ctime_ns))
        return names

    def _remember(self, path: str, seen: _Seen) -> None:
        is_settled = time.time() - seen.changed / 1e9 > _SETTLED_S
        with self._lock:
            self._seen.pop(path, None)
            if is_settled and len(seen.names) >= _LARGE:
                self._seen[path] = seen
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
