"""Bound the memory of the parts that one process sends to a bucket.

obstore sends the memory of a part without a copy, and drops the part when the service has answered.
`PartMemory` sees when a part is dropped, so it counts the bytes of all parts of a process.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final

_LOOK_S: Final = 0.5


class _Part(bytearray):
    """The memory of one part; a plain bytearray would accept no weak reference."""


class PartMemory:
    """A `PartMemory` gives memory for parts, at most *most* bytes at a time for one process.

    A part that is larger than *most* is given when no other part is in use.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        # The lock is reentrant: a part can be dropped by the thread that asks for the next part.
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """The number of bytes in use."""
        return self._most - self._left

    def part(self, size: int, check: Callable[[], None]) -> bytearray:
        """Wait for *size* bytes of memory; they are in use until the returned object is dropped.

        *check* is called while the method waits, and may raise an exception to end the wait.
        """
        with self._changed:
            while self._left < min(size, self._most):
                check()
                self._changed.wait(_LOOK_S)
            self._left -= size
        try:
            part = _Part(size)
        except MemoryError:
            self._return(size)
            raise
        weakref.finalize(part, self._return, size).atexit = False
        return part

    def _return(self, size: int) -> None:
        with self._changed:
            self._left += size
            self._changed.notify_all()
