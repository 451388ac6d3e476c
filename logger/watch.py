"""Wake the logger's loop when a log is written, rotated or truncated, if inotify is available."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from watchdog.events import (
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

# Events of opening and closing files are ignored, because the logger itself causes them.
_CHANGES: list[type[FileSystemEvent]] = [FileCreatedEvent, FileModifiedEvent, FileMovedEvent]


class Wake:
    """A `Wake` lets another thread or a signal handler end a wait, without a lock."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def set(self) -> None:
        """Make the current call of `wait`, or else the next one, return at once."""
        # If the pipe is full, the bytes that are already in it end the wait.
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until `set` is called, but at most *seconds*."""
        select.select([self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Close the pipe. Do not call `set` afterwards."""
        os.close(self._reader)
        os.close(self._writer)


class FolderWatch(FileSystemEventHandler):
    """A `FolderWatch` sets *wake* at each change in *folder*, between `start` and `stop`.

    If inotify fails, a warning is logged. Then the logger's loop detects changes only because it
    reads the logs at intervals.
    """

    def __init__(self, folder: Path, wake: Wake) -> None:
        self._folder = folder
        self._wake = wake
        self._observer: BaseObserver | None = None
        # The library watchdog logs an error if a change happens while it stops. This error is
        # hidden, because the logger's loop then reads the logs at intervals and misses no change.
        logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)
        self._is_refused = False

    def start(self) -> bool:
        """Start watching the folder, and return True.

        Return False if the watch was already running, or if inotify is unavailable.
        """
        if self._observer or self._is_refused:
            return False
        observer = Observer()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            observer.schedule(self, str(self._folder), event_filter=_CHANGES)
            observer.start()
        except (OSError, RuntimeError) as error:
            self._is_refused = True
            log.warning(
                "the log folder cannot be watched", extra={"path": self._folder, "error": error}
            )
            return False
        self._observer = observer
        return True

    @property
    def is_running(self) -> bool:
        """Return whether the folder is watched."""
        return self._observer is not None

    def stop(self) -> None:
        """Stop watching the folder; `start` may be called again."""
        if self._observer:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def on_any_event(self, _event: FileSystemEvent) -> None:
        """Wake the loop at any change."""
        self._wake.set()
