"""Run the worker processes: gunicorn, with separate unix sockets for each worker.

With one shared socket, a worker full of slow readers would accept connections that another worker
could handle at once. HAProxy balances over the sockets by the load of each worker.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from entrepot.registry.server.polled import ConnectionLimits
from entrepot.registry.server.worker import MAX_WAITING_THREADS, KeepAliveWorker
from entrepot.runtime.parent_death import end_with_parent

THREADS = 768
"""One worker handles this many requests at a time, and as many requests for blobs in addition.

This number of threads is possible because a thread in the system call sendfile does not hold the
interpreter lock. The worker creates each thread when it is first needed.
"""

_KEEPALIVE_S = 75  # An idle connection stays open for this many seconds, longer than in HAProxy.
_SEND_BUFFER = 512 * 1024
"""The send buffer of a connection to HAProxy in bytes; the operating system may allow fewer bytes.

PERF: with a buffer larger than the default, the worker and HAProxy wake each other less often, so
that a large blob costs each of them a third less CPU time. For a file, the send buffer refers to
pages of the page cache and copies nothing. These pages stay in memory until a slow client has
received them, so the buffer is not made even larger.
"""
# When the appliance stops, workers get this many seconds to finish their requests. This short time
# is enough, because HAProxy exits before the workers, after its open responses have ended.
_GRACE_S = 2


@dataclass(frozen=True, slots=True)
class SocketServing:
    """A `SocketServing` configures workers with one unix socket each.

    `blobs` are additional sockets, one for each worker; requests over these sockets have their own
    threads. Each worker calls `started` after its start. `limits` apply to slow connections;
    `on_limit` is called for each connection that was closed because of a limit.
    """

    sockets: tuple[Path, ...]
    log_level: str = "warning"
    started: Callable[[], None] = lambda: None
    blobs: tuple[Path, ...] = ()
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    on_limit: Callable[[str], None] = lambda _: None

    def settings(self) -> dict[str, Any]:
        """Return gunicorn's settings for workers with unix sockets."""
        return {
            "bind": [f"unix:{path}" for path in (*self.sockets, *self.blobs)],
            "workers": len(self.sockets),
            "keepalive": _KEEPALIVE_S,
            "loglevel": self.log_level,
            "pre_fork": partial(_choose_socket, len(self.sockets)),
            "post_fork": self._prepare,
            # gunicorn's default function would format a debug line that the log then omits.
            "pre_request": lambda _worker, _request: None,
            "post_worker_init": lambda _: self.started(),
        }

    def _prepare(self, _: Any, worker: Any) -> None:  # noqa: ANN401 - as in gunicorn
        """Let the worker listen on its own sockets only, and set its limits.

        Let the kernel end the worker if the arbiter is killed, because an idle worker rarely checks
        whether its arbiter is alive.
        """
        worker.set_limits(self.limits, self.on_limit)
        worker.send_buffer = _SEND_BUFFER
        own = worker.sockets[worker.slot :: len(self.sockets)]
        worker.blobs_socket = str(self.blobs[worker.slot]) if self.blobs else ""
        worker.sockets = own
        end_with_parent()


@dataclass(frozen=True, slots=True)
class AddressServing:
    """An `AddressServing` configures workers that share one `host:port`.

    Each worker calls `started` after its start, and `stopped` before it exits.
    """

    address: str
    workers: int
    started: Callable[[], None]
    stopped: Callable[[], None]

    def settings(self) -> dict[str, Any]:
        """Return gunicorn's settings for workers at one address."""
        return {
            "bind": [self.address],
            "workers": self.workers,
            "loglevel": "warning",
            "post_worker_init": lambda _: self.started(),
            "worker_exit": lambda _arbiter, _worker: self.stopped(),
        }


class GunicornApplication(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """A `GunicornApplication` runs a WSGI application in several processes."""

    def __init__(self, app: WSGIApplication, serving: SocketServing | AddressServing) -> None:
        self._app = app
        self._serving = serving
        super().__init__()

    def load(self) -> WSGIApplication:
        """Return the WSGI application.

        gunicorn calls this method once before the fork, so that the workers share the application's
        memory.
        """
        return self._app

    def load_config(self) -> None:
        """Set the settings that differ from gunicorn's defaults.

        The setting `sendfile` must stay unset: gunicorn then uses the system call sendfile.
        """
        for name, value in (_COMMON | self._serving.settings()).items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serve requests until a signal stops gunicorn's arbiter process."""
        SuspendTolerantArbiter(self).run()


class SuspendTolerantArbiter(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """A `SuspendTolerantArbiter` does not kill workers after a pause of the whole machine.

    After SIGSTOP and SIGCONT, in a frozen container, or on a suspended machine, every worker seems
    silent for the length of the pause. If gunicorn's own arbiter ran first after the pause, it
    would kill all workers with their requests.
    """

    look_s = 10.0
    """The arbiter checks its workers at this interval in seconds, and at once when a worker
    exits."""
    pause_s = 20.0
    """A gap of this many seconds between two checks is treated as a pause."""

    def __init__(self, app: BaseApplication) -> None:
        super().__init__(app)
        self._checked_at = self._resumed_at = time.monotonic()

    def wait_for_signals(self, timeout: float = look_s) -> list[int]:
        """Wait for signals up to `look_s` seconds; gunicorn's own arbiter wakes up every second."""
        return list(super().wait_for_signals(max(timeout, self.look_s)))

    def murder_workers(self) -> None:
        """Kill workers that hang; after a pause of the machine, restart their full timeout."""
        now = time.monotonic()
        if now - self._checked_at >= self.pause_s:
            self._resumed_at = now
        self._checked_at = now
        if now - self._resumed_at >= self.cfg.timeout:
            super().murder_workers()


_COMMON: dict[str, Any] = {
    "logger_class": Logger,  # gunicorn's default; this import loads it before the fork.
    "worker_class": f"{KeepAliveWorker.__module__}.{KeepAliveWorker.__qualname__}",
    "threads": THREADS + MAX_WAITING_THREADS,
    "worker_connections": 6 * THREADS,
    "graceful_timeout": _GRACE_S,
    "timeout": 60,
    "preload_app": True,
    "control_socket_disable": True,
    "forwarder_headers": "",
    "header_map": "refuse",
    "when_ready": lambda _: gc.freeze(),
}


def _choose_socket(count: int, arbiter: Any, worker: Any) -> None:  # noqa: ANN401 - as in gunicorn
    """Assign a new worker an unused socket, or the socket of a worker being replaced."""
    taken = [each.slot for each in arbiter.WORKERS.values()]
    worker.slot = min(range(count), key=taken.count)
