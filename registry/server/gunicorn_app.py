"""The worker processes: gunicorn, with a unix socket of its own for each worker.

A worker full of slow readers must not take connections that another could answer at once: with
one socket for all it would. HAProxy chooses among the sockets by how busy each is.
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

from entrepot.registry.server.aftercare import ConnectionLimits
from entrepot.registry.server.worker import MOST_LINGERING, KeepAliveWorker

THREADS = 768
"""Requests that one worker answers at a time, and as many for blobs beside them.

A thread in `sendfile` holds no lock, and is made when it is first needed.
"""

_KEEPALIVE_S = 75  # longer than HAProxy keeps an idle connection
_ON_THE_WAY = 512 * 1024
"""Bytes that HAProxy has not taken yet; the system may allow fewer.

PERF: more of a body between worker and HAProxy wakes each less often, and a large blob costs both a
third less. The kernel holds pages of the file there, no copies; but they stay in memory until a
slow client has them, so it is no more than this.
"""
_GRACE_S = 2  # HAProxy has let its clients finish before


@dataclass(frozen=True, slots=True)
class Serving:
    """How many workers, at which sockets (one each), and what runs in each after its start.

    `blobs` are further sockets, one a worker, for requests that get threads of their own. `bounds`
    is what a worker bears of slow clients; `limited` gets told of each that was ended for it.
    """

    sockets: tuple[Path, ...]
    log_level: str = "warning"
    started: Callable[[], None] = lambda: None
    blobs: tuple[Path, ...] = ()
    bounds: ConnectionLimits = field(default_factory=ConnectionLimits)
    limited: Callable[[str], None] = lambda _: None

    def settings(self) -> dict[str, Any]:
        """Return what gunicorn is told."""
        return {
            "bind": [f"unix:{path}" for path in (*self.sockets, *self.blobs)],
            "workers": len(self.sockets),
            "keepalive": _KEEPALIVE_S,
            "loglevel": self.log_level,
            "pre_fork": partial(_choose_socket, len(self.sockets)),
            "post_fork": self._prepare,
            # PERF: gunicorn's own makes a line for its log, whatever the level
            "pre_request": lambda _worker, _request: None,
            "post_worker_init": lambda _: self.started(),
        }

    def _prepare(self, _: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn's own
        """Have a worker listen on its own sockets only."""
        worker.bear(self.bounds, self.limited)
        worker.on_the_way = _ON_THE_WAY
        own = worker.sockets[worker.slot :: len(self.sockets)]
        worker.blobs_socket = str(self.blobs[worker.slot]) if self.blobs else ""
        worker.sockets = own


@dataclass(frozen=True, slots=True)
class Listening:
    """How many workers, all at one `host:port`, and what runs in each at its start and end."""

    address: str
    workers: int
    started: Callable[[], None]
    stopped: Callable[[], None]

    def settings(self) -> dict[str, Any]:
        """Return what gunicorn is told."""
        return {
            "bind": [self.address],
            "workers": self.workers,
            "loglevel": "warning",
            "post_worker_init": lambda _: self.started(),
            "worker_exit": lambda _arbiter, _worker: self.stopped(),
        }


class GunicornApplication(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Runs an application in several processes."""

    def __init__(self, app: WSGIApplication, serving: Serving | Listening) -> None:
        self._app = app
        self._serving = serving
        super().__init__()

    def load(self) -> WSGIApplication:
        """Return the application: built once, before the fork, so that its memory is shared."""
        return self._app

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults; `sendfile` must stay unset to be used."""
        for name, value in (_COMMON | self._serving.settings()).items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serve until a signal ends it."""
        ForbearingArbiter(self).run()


class ForbearingArbiter(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """Kills no worker for a silence that it slept through itself.

    After SIGSTOP and SIGCONT, a frozen container or a suspended machine every worker is silent for
    as long as the pause was; the arbiter that looks first would end the requests of all of them.
    """

    longest_look = 5.0
    """Seconds between two looks, 1 s apart, from which on it was a pause."""

    def __init__(self, app: BaseApplication) -> None:
        super().__init__(app)
        self._looked = self._resumed = time.monotonic()

    def murder_workers(self) -> None:
        """Kill workers that hang; after a pause each has its whole time again."""
        now = time.monotonic()
        if now - self._looked >= self.longest_look:
            self._resumed = now
        self._looked = now
        if now - self._resumed >= self.cfg.timeout:
            super().murder_workers()


_COMMON: dict[str, Any] = {
    "worker_class": f"{KeepAliveWorker.__module__}.{KeepAliveWorker.__qualname__}",
    "threads": THREADS + MOST_LINGERING,
    "worker_connections": 6 * THREADS,
    "graceful_timeout": _GRACE_S,
    "timeout": 60,
    "preload_app": True,
    "control_socket_disable": True,
    "forwarder_headers": "",
    "header_map": "refuse",
    "when_ready": lambda _: gc.freeze(),
}


def _choose_socket(many: int, arbiter: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn's own
    """Give a new worker the socket that no living one has, or only one that is to be replaced."""
    taken = [each.slot for each in arbiter.WORKERS.values()]
    worker.slot = min(range(many), key=taken.count)
