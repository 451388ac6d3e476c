"""Open the access log of a `serve` process: the log file, its limit, and the lines on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from entrepot.appliance.supervise.access_formats import Render, combined_lines, json_lines
from entrepot.appliance.supervise.access_printer import AccessPrinter
from entrepot.appliance.supervise.environment import log_share
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.config.log_settings import LogSettings
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event, write_event
from entrepot.datastore.budget import Budget


def access_log(settings: Settings) -> Callable[[Sequence[int]], LogMover]:
    """Return a function that moves lines from HAProxy's pipes into the log file.

    The function takes the reading ends of the pipes. An event is written with the number of lines
    that a limit dropped.
    """
    cleaner, spoolsize = settings.cleaner, settings.storage.spoolsize
    share = log_share(Budget(cleaner.maxsize, cleaner.threshold, spoolsize=spoolsize))
    state = settings.storage.statedir
    count = partial(_count, state / layout.EVENTS)
    log = RotatedLog(state / layout.ACCESS_LOG, file_bytes=share.file_bytes, backups=share.backups)
    limit = LineLimit(settings.limits.lines, share.bytes_a_second, partial(count, "lines"))

    def move(pipes: Sequence[int]) -> LogMover:
        printer = None
        if not settings.log.accesslog.disabled:
            render = _render(settings.log)
            printer = AccessPrinter(sys.stdout.fileno(), render, partial(count, "stdout"))
        return LogMover(pipes, log, limit, printer)

    return move


def _render(log: LogSettings) -> Render:
    return json_lines(log.fields) if log.accesslog.formatter == "json" else combined_lines


def _count(events: Path, limit: str, lines: int) -> None:
    with suppress(OSError):
        write_event(events, Event("limit", time.time(), {"limit": limit, "count": lines}))
