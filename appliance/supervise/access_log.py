"""Connect the parts of the access log: the log files, the limit of lines, and stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from entrepot.appliance.serve_plan import AccessLogPlan, LogPlan
from entrepot.appliance.supervise.access_formats import Render, combined_lines, json_lines
from entrepot.appliance.supervise.access_printer import AccessPrinter
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event, write_event


def access_log(
    plan: AccessLogPlan, log_plan: LogPlan, state: Path
) -> Callable[[Sequence[int]], LogMover]:
    """Return a function that starts the thread that moves lines from HAProxy's pipes into the log.

    The function takes the reading ends of the pipes. If a limit drops lines, their number is
    written into an event file, from which the logger reads it. *state* is the state directory.
    """
    count = partial(_count, state / layout.EVENTS)
    log = RotatedLog(state / layout.ACCESS_LOG, file_bytes=plan.file_bytes, backups=plan.backups)
    limit = LineLimit(plan.lines, plan.bytes_a_second, partial(count, "lines"))

    def move(pipes: Sequence[int]) -> LogMover:
        printer = None
        if plan.printed:
            render = _render(plan, log_plan)
            printer = AccessPrinter(sys.stdout.fileno(), render, partial(count, "stdout"))
        return LogMover(pipes, log, limit, printer)

    return move


def _render(plan: AccessLogPlan, log_plan: LogPlan) -> Render:
    return json_lines(log_plan.fields) if plan.printed == "json" else combined_lines


def _count(events: Path, limit: str, lines: int) -> None:
    with suppress(OSError):
        write_event(events, Event("limit", time.time(), {"limit": limit, "count": lines}))
