"""Report a worker's events that the access log does not show; the logger counts them as metrics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from entrepot.datastore.accesslog import Event, write_event
from entrepot.datastore.refs import Digest
from entrepot.runtime.clock import Clock

log = logging.getLogger(__name__)

_OF_DOWNLOAD = ("upstream", "repository", "digest", "bytes", "seconds", "outcome")


class Events:
    """An `Events` appends events to a file; an event is lost on a disk error."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Append one event."""
        if event == "download":
            download = {name: fields[name] for name in _OF_DOWNLOAD if name in fields}
            log.info("downloaded", extra=download)
        with contextlib.suppress(OSError):
            write_event(self._path, Event(event, self._clock(), dict(fields)))


class BreakerEvents:
    """A `BreakerEvents` appends breaker events; when a breaker opens, it purges HAProxy's cache.

    HAProxy's cached manifests may reference parts that only the unreachable upstream has.
    """

    def __init__(self, report: Events, purge: Callable[[], None]) -> None:
        self._report = report
        self._purge = purge

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Append one event; if a breaker has opened, purge HAProxy's cache."""
        self._report(event, **fields)
        if event == "breaker" and fields.get("state") == "open":
            self._purge()


def damaged(
    report: Events, purge: Callable[[], None], digest: Digest, size: int, found: str
) -> None:
    """Append an event for a damaged file, and purge HAProxy's cache, which may have a copy."""
    report("damaged", digest=str(digest), size=size, found=found)
    with contextlib.suppress(OSError):
        purge()
