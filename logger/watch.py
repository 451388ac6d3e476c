"""Wake the logger's loop when a log is written, rotated or truncated, if inotify is available."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.file_events import CREATED, MOVED, WRITTEN, FileEvents

log = logging.getLogger(__name__)


class Wake:
    """A `Wake` lets another thread or a signal handler end a wait, without a lock."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self.events: FileEvents | None = None
        """If this is set, changes of the watched files end a wait too."""

    def set(self) -> None:
        """Make the current call of `wait`, or else the next one, return at once."""
        # If the pipe is full, the bytes that are already in it end the wait.
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until `set` is called or a file changes, but at most *seconds*."""
        also = [] if self.events is None else [self.events.fd]
        select.select([self._reader, *also], [], [], seconds)
        if self.events is not None:
            self.events.clear()
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Close the pipe. Do not call `set` afterwards."""
        os.close(self._reader)
        os.close(self._writer)


class FolderWatch:
    """A `FolderWatch` ends the waits of *wake* at each change in *folder*.

    The watch begins with `start` and ends with `stop`. If inotify fails, a warning is logged, and
    only the regular reads of the logger's loop detect changes.
    """

    def __init__(self, folder: Path, wake: Wake) -> None:
        self._folder = folder
        self._wake = wake
        self._is_refused = False

    def start(self) -> bool:
        """Start watching the folder, and return True.

        Return False if the watch was already running, or if inotify is unavailable.
        """
        if self.is_running or self._is_refused:
            return False
        events: FileEvents | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            events = FileEvents()
            # Events of opening and closing files are not watched, because the logger causes such
            # events when it reads the logs.
            events.watch(self._folder, WRITTEN | CREATED | MOVED)
        except OSError as error:
            if events is not None:
                events.close()
            self._is_refused = True
            log.warning(
                "the log folder cannot be watched", extra={"path": self._folder, "error": error}
            )
            return False
        self._wake.events = events
        return True

    @property
    def is_running(self) -> bool:
        """Return whether the folder is watched."""
        return self._wake.events is not None

    def stop(self) -> None:
        """Stop watching the folder; `start` may be called again."""
        events, self._wake.events = self._wake.events, None
        if events is not None:
            events.close()
