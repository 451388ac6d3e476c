"""Create the objects of this package from the settings."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.config.http_settings import HttpSettings
from entrepot.config.notifications import NotificationEndpoint
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.budget import Budget
from entrepot.notifications.endpoint import EventEndpoint, Source
from entrepot.notifications.queue import EventQueue
from entrepot.notifications.recorder import Recorder
from entrepot.runtime.run_names import SETTINGS

# The rows get three quarters of the space for the queue. The file is larger than its rows, because
# pages of SQLite are rarely full.
_ROWS = (3, 4)


def endpoints(settings: Settings) -> tuple[EventEndpoint, ...]:
    """Return the endpoints that are not disabled."""
    return tuple(map(_endpoint, settings.notifications.active))


def queue(settings: Settings, *, is_durable: bool) -> EventQueue:
    """Return the event queue without opening its file."""
    cleaner = settings.cleaner
    space = Budget(cleaner.maxsize, cleaner.threshold, has_events=True).queue_bytes
    each = space * _ROWS[0] // _ROWS[1] // max(len(settings.notifications.active), 1)
    return EventQueue(path(settings), each, is_durable=is_durable)


def path(settings: Settings) -> Path:
    """Return the path of the file of the event queue."""
    return settings.storage.statedir / layout.NOTIFICATIONS


def source(settings: Settings) -> Source:
    """Return the facts about this appliance that are part of each event."""
    http = settings.http
    return Source(
        address=_address(http),
        instance=_instance(settings.run / SETTINGS),
        base=_base(http),
        prefix="" if http.prefix == "/" or http.host else http.prefix,
        references=settings.notifications.events.includereferences,
    )


def recorder(settings: Settings, lost: Callable[[int], None]) -> Recorder:
    """Return the recorder of a worker; it calls *lost* with the number of events that are lost."""
    durable = queue(settings, is_durable=True)
    return Recorder(durable, endpoints(settings), source(settings), lost)


def _endpoint(given: NotificationEndpoint) -> EventEndpoint:
    return EventEndpoint(
        given.name,
        given.url,
        headers=given.headers,
        timeout=given.timeout,
        threshold=given.threshold,
        backoff=given.backoff,
        ignored=frozenset(given.ignoredmediatypes),
        actions=frozenset(given.actions),
    )


def _address(http: HttpSettings) -> str:
    """Return the host name of this machine with the port of `http.addr`.

    docker distribution forms the address in its events in the same way.
    """
    name = socket.gethostname()
    port = str(http.addr).rpartition(":")[2]
    return f"{name}:{port}" if port.isdecimal() and http.net == "tcp" else name


def _base(http: HttpSettings) -> str | None:
    """Return the beginning of all URLs in events if `http.host` is set, otherwise None.

    The URLs in Location headers have the same beginning.
    """
    if http.host is None:
        return None
    prefix = "" if http.prefix == "/" else http.prefix
    return http.host if urlsplit(http.host).path else f"{http.host}{prefix}"


def _instance(settings_file: Path) -> str:
    """Return a UUID that is the same in all programs of the appliance and changes at each start."""
    written = settings_file.stat().st_mtime_ns
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{settings_file.resolve()}#{written}"))
