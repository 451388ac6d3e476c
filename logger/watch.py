"""Wake the loop when a log is written, rotated or truncated, with inotify if available."""

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

# The watch ignores opening and closing of files, which the reader itself causes.
_CHANGES: list[type[FileSystemEvent]] = [FileCreatedEvent, FileModifiedEvent, FileMovedEvent]


class Wake:
    """A `Wake` ends a wait from another thread or from a signal handler, without a lock."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def set(self) -> None:
        """End the current wait, or the next wait if no thread waits."""
        # If the pipe is full, the bytes in it end the wait.
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until `set` is called, *seconds* at most."""
        select.select([self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Close both ends of the pipe. `set` must not be called after `close`."""
        os.close(self._reader)
        os.close(self._writer)


class FolderWatch(FileSystemEventHandler):
    """Sets *wake* at each change in *folder*, between `start` and `stop`.

    Without inotify, the loop notices changes only by its polls, so a failure is only a warning.
    """

    def __init__(self, folder: Path, wake: Wake) -> None:
        self._folder = folder
        self._wake = wake
        self._observer: BaseObserver | None = None
        # The library watchdog logs an error for a change that happens while it stops. Such a change
        # is not lost, because the loop of the logger polls the logs then.
        logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)
        self._is_refused = False

    def start(self) -> bool:
        """Start watching the folder.

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
        """Return whether the folder is watched; otherwise only polls notice a change in it."""
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
