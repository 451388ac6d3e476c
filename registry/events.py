"""What happens in a worker and shows in no client's line, for the logger."""

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
    """Writes what no client's line shows; a full disk forgoes that."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Write one event."""
        if event == "download":
            told = {name: fields[name] for name in _OF_DOWNLOAD if name in fields}
            log.info("downloaded", extra=told)
        with contextlib.suppress(OSError):
            write_event(self._path, Event(event, self._clock(), dict(fields)))


class BreakerEvents:
    """Writes what happens to an upstream; one that is away is forgotten with all that it had.

    What HAProxy remembers of it may want parts that only it has.
    """

    def __init__(self, report: Events, forget: Callable[[], None]) -> None:
        self._report = report
        self._forget = forget

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Write one event, and forget what HAProxy remembers when a breaker opens."""
        self._report(event, **fields)
        if event == "breaker" and fields.get("state") == "open":
            self._forget()


def damaged(
    report: Events, forget: Callable[[], None], digest: Digest, size: int, found: str
) -> None:
    """Write what was found damaged; what HAProxy remembers of it is forgotten."""
    report("damaged", digest=str(digest), size=size, found=found)
    with contextlib.suppress(OSError):
        forget()
