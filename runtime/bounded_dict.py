"""Define a dictionary whose size is bounded, although clients and upstreams choose its keys.

The classes of `cachetools` are not used because their reads need a lock: a read of an LRU cache
changes the cache. A read of a `BoundedDict` is a `dict.get`, which is atomic and needs no lock.
"""

from __future__ import annotations

from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class BoundedDict(dict[_K, _V]):
    """A dictionary of at most *most* entries; it drops the oldest entries beyond this number.

    Entries must be added with `keep`. The oldest entry is the one for which `keep` was called
    longest ago. If `keep` is called at each use of an entry, the least recently used entry is
    dropped first.

    Several threads may call `keep` at the same time. For a moment, the dictionary can then have one
    more entry for each thread, and the entry that `keep` is setting can be absent.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: _K, value: _V) -> None:
        """Set an entry, which becomes the newest, and drop the oldest entries beyond the limit."""
        self.pop(key, None)
        self[key] = value
        while len(self) > self._most:
            try:
                self.pop(next(iter(self)), None)
            # Another thread is changing the dictionary; that thread drops the surplus entries.
            except (RuntimeError, StopIteration):
                return
