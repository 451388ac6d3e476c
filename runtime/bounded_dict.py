"""A dictionary with a largest number of entries, for data from clients, upstreams or disks.

A `BoundedDict` is used instead of `cachetools`, whose classes also need a lock for reads: their
`get` looks twice, and reading from an LRU cache changes the cache. A read of a `BoundedDict` is one
`dict.get`, which is atomic.
"""

from __future__ import annotations

from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class BoundedDict(dict[_K, _V]):
    """Entries by key; beyond *most* entries, the entries that were kept first are dropped.

    `keep` is the only way to add entries. Any thread may call `keep`: for a moment the dictionary
    may then have one entry more for each thread, or an entry that is kept again may be absent. To
    drop the entry that was used longest ago, keep an entry again at each use.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: _K, value: _V) -> None:
        """Set an entry, which becomes the last entry to be dropped."""
        self.pop(key, None)
        self[key] = value
        while len(self) > self._most:
            try:
                self.pop(next(iter(self)), None)
            # Another thread changed the dictionary, and drops the surplus entries.
            except (RuntimeError, StopIteration):
                return
