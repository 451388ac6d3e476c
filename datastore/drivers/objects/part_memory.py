"""Limit the memory of the parts that one process sends to a bucket.

obstore sends a part from the memory of its `bytearray`, without a copy. After the service has
responded, obstore drops its reference to the part, and Python frees the memory. Python then also
calls `PartMemory` (through a weak reference), so `PartMemory` counts the bytes of all parts that
exist in a process.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final

_LOOK_S: Final = 0.5


class _PartBuffer(bytearray):
    """A `_PartBuffer` has the bytes of one part.

    This class exists because weak references to a plain bytearray are impossible.
    """


class PartMemory:
    """A `PartMemory` allocates the parts of one process, at most *most* bytes at the same time.

    A part that is larger than *most* is allocated when no other part is in use.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        # The lock must be reentrant, which the lock of a Condition is. While a thread that has the
        # lock allocates a part, Python can free another part in this thread. `_return` then
        # acquires the lock a second time.
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Return the number of bytes in use."""
        return self._most - self._left

    def part(self, size: int, check: Callable[[], None]) -> bytearray:
        """Wait until *size* bytes are free, and return a part of that size.

        The bytes are in use until the last reference to the part is dropped. While the method
        waits, it calls *check* every half second; *check* can raise an exception to end the wait.
        """
        with self._changed:
            while self._left < min(size, self._most):
                check()
                self._changed.wait(_LOOK_S)
            self._left -= size
        try:
            part = _PartBuffer(size)
        except MemoryError:
            self._return(size)
            raise
        weakref.finalize(part, self._return, size).atexit = False
        return part

    def _return(self, size: int) -> None:
        with self._changed:
            self._left += size
            self._changed.notify_all()
