"""A dictionary with a largest number of entries, for what clients, upstreams or disks send.

It is used instead of `cachetools`, whose classes need a lock for reads too: their `get` looks
twice, and reading from an LRU cache changes it. Here a read is one `dict.get`, which is atomic.
"""

from __future__ import annotations

from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class BoundedDict(dict[_K, _V]):
    """Entries by key; beyond *most* entries, those that were kept first are dropped.

    `keep` is the only way to add entries. Any thread may call it: for a moment there may then be
    one entry more for each thread, or an entry that is kept again may be absent. To drop what was
    used longest ago, keep an entry again at each use.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: _K, value: _V) -> None:
        """Set an entry, as the last one to be dropped."""
        self.pop(key, None)
        self[key] = value
        while len(self) > self._most:
            try:
                self.pop(next(iter(self)), None)
            except (RuntimeError, StopIteration):  # another thread changed it, and drops the rest
                return
