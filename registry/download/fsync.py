"""Brings a growing file to the disk while it grows, so that its last byte waits for little."""

from __future__ import annotations

import contextlib
import os
import threading

_STEP = 32 * 1024 * 1024  # bytes


class BackgroundFsync:
    """Flushes an open file in steps, one at a time, beside whoever writes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._flushed = 0
        self._thread: threading.Thread | None = None

    def reached(self, offset: int) -> None:
        """Flush what lies before *offset* (bytes), if that is enough to be worth it."""
        if offset - self._flushed < _STEP or (self._thread and self._thread.is_alive()):
            return
        self._flushed = offset
        self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the step that runs: the file may be closed after."""
        if self._thread:
            self._thread.join()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):  # whoever lands the file flushes it, and hears of it
            os.fdatasync(self._descriptor)
