"""Build the logger's loop from the settings, and run it until a SIGTERM."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from entrepot import config
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import open_index, open_storage
from entrepot.logger.batch import LogBatch
from entrepot.logger.display import Display, SpoolFolder
from entrepot.logger.filetimes import FileTimes
from entrepot.logger.loop import POLL_S, WATCHED_POLL_S, LoggerLoop, LogPaths, Work
from entrepot.logger.watch import FolderWatch, Wake
from entrepot.runtime import logs
from entrepot.runtime.clock import Clock
from entrepot.runtime.health import failing_checks
from entrepot.runtime.run_names import ADMIN_SOCKET, METRICS, SETTINGS
from entrepot.runtime.version import version

log = logging.getLogger(__name__)

_POLL_S = 0.05
_KEEP_S = 0.5


class EventThreads(Protocol):
    """The interface of the threads that queue notifications and deliver them to endpoints."""

    def start(self) -> None:
        """Start the threads."""
        ...

    def wake(self) -> None:
        """Wake the threads, because the access log has new lines, which can be about pulls."""
        ...

    def stop(self) -> None:
        """Stop the threads."""
        ...


def main() -> int:
    """Follow the access log and the events file until a SIGTERM or SIGINT."""
    settings = config.resolved()
    logs.configure(
        settings.log.level,
        settings.log.formatter,
        "logger",
        fields=settings.log.fields,
        has_caller=settings.log.reportcaller,
    )
    ended, wake = [False], Wake()

    def end(*_: object) -> None:
        ended[0] = True
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    follow(settings, lambda: ended[0], wake)
    return 0


def follow(settings: Settings, is_ended: Callable[[], bool], wake: Wake) -> None:
    """Run the loop until *is_ended* returns True.

    The caller sets *wake* to end a wait. The caller must also set *wake* when *is_ended* begins to
    return True. PERF: while lines are written, polling costs a third as much as inotify, because
    inotify sends an event for each line. So inotify is used only while no lines arrive.
    """
    clock = Clock(settings.storage.statedir / layout.CLOCK)
    made = work(settings, clock)
    loop = LoggerLoop(made)
    notifications = _notifications(settings, clock, made.display)
    watch = FolderWatch(settings.storage.statedir / Path(layout.ACCESS_LOG).parent, wake)
    watch.start()
    if notifications is not None:
        notifications.start()
    log.info("logger started", extra={"path": settings.storage.statedir})
    kept = -math.inf
    while not is_ended():
        now = time.monotonic()
        if now - kept >= _KEEP_S:
            clock.keep()
            kept = now
        seconds = loop.turn(now, poll_s=WATCHED_POLL_S if watch.is_running else POLL_S)
        if loop.is_lively(now):
            if notifications is not None:
                notifications.wake()
            watch.stop()
            wake.wait(min(seconds, _POLL_S))
        # A watch that has just been started has missed lines that were written a moment ago.
        # Therefore the loop reads the logs once more after it has started a watch, and then waits.
        elif not watch.start():
            wake.wait(seconds)
    if notifications is not None:
        notifications.stop()
    loop.finish(time.monotonic())
    watch.stop()


def _notifications(settings: Settings, clock: Clock, display: Display) -> EventThreads | None:
    """Return the threads that queue and deliver notifications; None if there is no endpoint."""
    queue_file = settings.storage.statedir / layout.NOTIFICATIONS
    if not settings.notifications.active:
        if queue_file.exists():
            from entrepot.notifications import queue  # noqa: PLC0415

            queue.remove(queue_file)
            log.warning("the event queue was removed, because no endpoint is configured")
        return None
    # The modules that deliver events import modules for HTTP and TLS, so they are imported only if
    # an endpoint is configured.
    from entrepot.logger import pull_events  # noqa: PLC0415

    made = pull_events.build(settings, clock)
    display.show_also(made.metrics)
    return made


def work(settings: Settings, clock: Clock) -> Work:
    """Build the objects that the loop uses from the settings."""
    state, run = settings.storage.statedir, settings.run
    index = open_index(state, clock)
    budget = Budget(
        settings.cleaner.maxsize,
        settings.cleaner.threshold,
        has_events=bool(settings.notifications.active),
        spoolsize=settings.storage.spoolsize,
    )
    secret, _ = config.read_secret(settings)
    known = config.upstreams_in_force(settings, secret).hosts
    since = _began(run, clock)
    return Work(
        places=LogPaths(
            access=state / layout.ACCESS_LOG,
            events=state / layout.EVENTS,
            admin=run / ADMIN_SOCKET,
            # The events file and the rotated one before it each get an eighth of the space for
            # logs.
            events_bytes=budget.log_bytes // 8,
        ),
        times=FileTimes(open_storage(settings.storage, clock), index),
        display=Display(
            run / METRICS,
            index,
            cap=budget.cap or 0,
            disks=tuple(dict.fromkeys((settings.storage.rootdirectory, state))),
            build={"version": version(), "python": sys.version.split()[0]},
            clock=clock,
            spool=_spool(settings, budget),
            failing=(lambda: len(failing_checks(run))) if settings.health.has_checks else None,
        ),
        open_ledger=lambda: LogBatch(
            index, upstreams=known, run=run.name, since=since, clock=clock
        ),
        wall=time.time,
    )


def _spool(settings: Settings, budget: Budget) -> SpoolFolder | None:
    """Return the folder of unfinished transfers, whose size is a metric; None without a bucket."""
    if not settings.storage.bucket:
        return None
    return SpoolFolder(settings.storage.statedir / layout.SPOOL, budget.max_reserved_bytes)


def _began(run: Path, clock: Clock) -> float:
    """Return when this run of the appliance began: the time at which the settings were written."""
    return (run / SETTINGS).stat().st_mtime + clock.shift()


if __name__ == "__main__":
    sys.exit(main())
