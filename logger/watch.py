"""Wakes the loop when a log is written to, rotated or cut; inotify where there is one."""

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

# not the opening and closing of files, which reading them does too
_CHANGES: list[type[FileSystemEvent]] = [FileCreatedEvent, FileModifiedEvent, FileMovedEvent]


class Wake:
    """Ends a wait, from another thread or from a signal handler: it takes no lock."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def set(self) -> None:
        """End the wait, or the next one if nobody waits."""
        with suppress(BlockingIOError):  # enough have said so
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until somebody says so, or for so many *seconds*."""
        select.select([self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Let go of both ends; nobody may set it any more."""
        os.close(self._reader)
        os.close(self._writer)


class Watch(FileSystemEventHandler):
    """Sets *wake* at each change in *folder*, between `start` and `stop`, which may be repeated.

    Without it the loop looks by itself, later: a watch that can't be had is a warning.
    """

    def __init__(self, folder: Path, wake: Wake) -> None:
        self._folder = folder
        self._wake = wake
        self._observer: BaseObserver | None = None
        # it calls an event that comes while it is stopped an error; the loop looks by itself then
        logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)
        self._is_refused = False

    def start(self) -> bool:
        """Watch from now on; False where that was so before, or can't be."""
        if self._observer or self._is_refused:
            return False
        observer = Observer()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            observer.schedule(self, str(self._folder), event_filter=_CHANGES)
            observer.start()
        except (OSError, RuntimeError) as error:
            self._is_refused = True
            log.warning("log folder not watched", extra={"path": self._folder, "error": error})
            return False
        self._observer = observer
        return True

    def stop(self) -> None:
        """Watch no more, for now."""
        if self._observer:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def on_any_event(self, _event: FileSystemEvent) -> None:
        """Wake the loop, whatever it was."""
        self._wake.set()
