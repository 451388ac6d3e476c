"""Compute the environment variables that haproxy.cfg and supervisord.conf read."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot.appliance.supervise import log_mover
from entrepot.appliance.supervise.http_environment import http_variables
from entrepot.appliance.supervise.shipped_files import shipped
from entrepot.config.schema import MOST_WORKERS, Settings
from entrepot.datastore.budget import Budget
from entrepot.runtime.outbound import without_passwords

WORKER_THREADS = 768
"""The number of threads of a registry worker. Each thread handles one request at a time."""

MANY_FILES = 65536
"""The largest number of files that a program of the appliance may have open.

This bound is needed because some operating systems allow a billion open files.
"""

# The number of file descriptors that HAProxy needs for listeners, health checks, the log and epoll.
_OTHER_FILES = 128
_REQUEST_FILES = 6  # The number of file descriptors that a request can need in a registry worker.
# The number of a worker's threads that are reserved for the health check and for requests over the
# worker's own socket.
_SPARE_THREADS = 16
# A worker accepts as many requests at the same time as it has slots. At most this many of them are
# only for clients with few running requests, so that clients with many requests cannot occupy all
# slots.
_SPARE_SLOTS = 64
# Once 7 of 8 connections are in use, HAProxy refuses new connections from client addresses that
# already have many connections.
_CROWDED = 7, 8
# The rule of `_CROWDED` applies only if HAProxy accepts at least this many connections in total.
_MANY_CONNECTIONS = 4096
# The smallest and the largest number of log files. Because there are several files, a rotation
# deletes only a part of the lines that the logger may not have read yet.
_LOG_FILES = (5, 10)
_LOG_SECONDS = 4
_LEAST_LOG_FILE = 16 * 1024
_GOOD_LOG_FILE = 512 * 1024
# A log file can exceed its limit by one write, because its size is checked before each write.
_OVERSHOOT = log_mover.PIECE
# The programs do not inherit variables with these prefixes. Some of these variables contain
# passwords, and the programs read the settings from the settings file.
_OURS = ("REGISTRY_", "CLEANER_", "ENTREPOT_", "SUPERVISOR_", "DCS_")
_OUR_NAMES = ("PULLSECRETPATH", "IGNOREREGISTRYLIST", "REGISTRYDIR")


@dataclass(frozen=True, slots=True)
class LogShare:
    """A `LogShare` limits the access log: the size of each file, and the number of older files."""

    file_bytes: int
    backups: int

    @property
    def bytes_a_second(self) -> int:
        """Return the rate in bytes/s at which lines would fill all log files within 4 s."""
        return self.file_bytes * (self.backups + 1) // _LOG_SECONDS


@dataclass(frozen=True, slots=True)
class FileShare:
    """A `FileShare` limits HAProxy's client connections, and the pipes for bodies."""

    connections: int
    pipes: int


@dataclass(frozen=True, slots=True)
class Start:
    """A `Start` has values that are not settings, because they are known only when `serve` starts.

    `address` and `debug` are the addresses of the appliance and of the debug listener in HAProxy's
    notation. `files` is the limit of open files for each program (`ulimit -n`). `certificate` and
    `client_authorities` are PEM files in the run directory.
    """

    run: Path
    settings_file: Path
    address: str
    certificate: Path | None
    files: int
    client_authorities: Path | None = None
    debug: str | None = None


def log_share(budget: Budget) -> LogShare:
    """Return the size and number of the access log's files.

    All files together get three quarters of the bytes that the budget reserves for logs.
    """
    total = budget.log_bytes * 3 // 4
    fewest, most = _LOG_FILES
    files = min(most, max(fewest, total // _GOOD_LOG_FILE))
    return LogShare(max(_LEAST_LOG_FILE, total // files - _OVERSHOOT), files - 1)


def file_share(files: int, slots: int) -> FileShare:
    """Divide HAProxy's open files between client connections and pipes.

    A client connection needs two files, because HAProxy opens a connection to a worker for it. A
    pipe has two ends, so it needs two files. HAProxy sends a body through a pipe, and if no pipe is
    free, HAProxy loops and uses a whole CPU. So there is one pipe for each body that HAProxy can
    send at the same time, and one more, because HAProxy 2.6 never uses the last pipe. But pipes get
    at most about half of the files. *slots* is the number of requests that all workers together
    accept.
    """
    pairs = (min(files, MANY_FILES) - _OTHER_FILES) // 2
    pipes = min(slots + 1, pairs // 2 + 1)
    return FileShare(pairs - pipes, pipes)


def worker_slots(files: int) -> int:
    """Return how many requests a worker accepts at the same time.

    The number of threads and *files* (the limit of open files) limit this number. A request can
    need a client connection, a stored file, a spool file, and connections to an upstream. If a
    worker ran out of file descriptors, it could neither read stored content nor accept a
    connection. Half of the descriptors are reserved for downloads of blobs, which run in other
    threads.
    """
    return max(min(WORKER_THREADS - _SPARE_THREADS, _blob_slots(files)), 3)


def _blob_slots(files: int) -> int:
    return max((files - _OTHER_FILES) // 2 // _REQUEST_FILES, 1)


def variables(settings: Settings, start: Start) -> dict[str, str]:
    """Return the ENTREPOT_* variables of haproxy.cfg, supervisord.conf and the programs."""
    slots = _request_slots(settings, start.files)
    haproxy = file_share(start.files, sum(slots.values()) * settings.http.workers)
    workers = {
        f"ENTREPOT_WORKER{number}": "enabled" if number <= settings.http.workers else "disabled"
        for number in range(1, MOST_WORKERS + 1)
    }
    return (workers | http_variables(settings.http) | _threads(settings)) | {
        "ENTREPOT_RUN": str(start.run),
        "ENTREPOT_SETTINGS": str(start.settings_file),
        "ENTREPOT_PYTHON": sys.executable,
        "ENTREPOT_HAPROXY": str(shipped("haproxy.cfg")),
        "ENTREPOT_ADDRESS": start.address,
        "ENTREPOT_CERTIFICATE": str(start.certificate or "none"),
        "ENTREPOT_CLIENT_CAS": str(start.client_authorities or "none"),
        "ENTREPOT_DEBUG": start.debug or "none",
        "ENTREPOT_LOG_REQUEST": "off" if settings.log.accesslog.disabled else "on",
        "ENTREPOT_WORKER_MAXCONN": str(slots["worker"]),
        "ENTREPOT_BLOB_MAXCONN": str(slots["blob"]),
        "ENTREPOT_UPLOAD_MAXCONN": str(slots["upload"]),
        "ENTREPOT_SPARE_MAXCONN": str(slots["spare"]),
        "ENTREPOT_FEW": str(settings.limits.few),
        "ENTREPOT_CROWDED": str(_crowded(haproxy.connections)),
        "ENTREPOT_GUESSES": str(settings.limits.logins),
        "ENTREPOT_OPEN": _write_access(settings),
        "ENTREPOT_CREDENTIALS": _credentials(settings),
        "ENTREPOT_NOTIFY": "on" if settings.notifications.active else "off",
        "ENTREPOT_MAXCONN": str(haproxy.connections),
        "ENTREPOT_MAXPIPES": str(haproxy.pipes),
        # For HAProxy a time of 0 means no limit, so the smallest time is 1 ms.
        "ENTREPOT_DRAIN_MS": str(max(1, round(settings.http.draintimeout * 1000))),
        "ENTREPOT_EDGE_CACHE": "on" if settings.has_edge_cache else "off",
        "ENTREPOT_EDGE_CACHE_MIB": str(settings.http.edgecachesize // 2**20),
        "ENTREPOT_REDIRECTING": "on" if settings.has_redirects else "off",
        "ENTREPOT_HEALTH": "on" if settings.health.has_checks else "off",
        "ENTREPOT_STOP_S": str(math.ceil(settings.http.draintimeout) + 1),
        # With PYTHONSAFEPATH, Python does not import modules from the working directory, which
        # could contain a folder "registry" or "config".
        "PYTHONSAFEPATH": "1",
    }


def _threads(settings: Settings) -> dict[str, str]:
    """Return the variables for HAProxy's threads.

    With `http.net: unix` there is one thread, because a unix socket can have only one listener.
    """
    threads = 1 if settings.http.net == "unix" else settings.http.threads
    further = {f"ENTREPOT_THREAD{number}": "on" for number in range(2, threads + 1)}
    return {"ENTREPOT_THREADS": str(threads)} | further


def _request_slots(settings: Settings, files: int) -> dict[str, int]:
    """Return how many requests of each kind a worker accepts at the same time.

    The kinds "worker", "upload" and "spare" share the threads that handle requests, so their
    numbers together are `worker_slots`. Requests of the kind "blob" have other threads.
    """
    slots = worker_slots(files)
    upload = min(settings.limits.bodies, max(slots // 4, 1))
    spare = min(_SPARE_SLOTS, max(slots // 8, 1))
    return {
        "worker": slots - upload - spare,
        "blob": min(settings.limits.blobs, _blob_slots(files)),
        "upload": upload,
        "spare": spare,
    }


def _crowded(connections: int) -> int:
    """Return the number of open connections at which HAProxy begins to refuse busy addresses.

    HAProxy then refuses new connections from client addresses that already have many connections.
    If HAProxy accepts fewer than 4,096 connections in total (*connections*), the result is larger
    than *connections*, so HAProxy refuses no address.
    """
    if connections < _MANY_CONNECTIONS:
        return connections + 1
    return connections * _CROWDED[0] // _CROWDED[1]


def _write_access(settings: Settings) -> str:
    """Return which clients may push without a password.

    The result is "closed" (no clients), "loopback" (clients on this machine) or "open" (all).
    """
    if settings.auth.protects:
        return "closed"
    return "loopback" if settings.http.addr.is_loopback else "open"


def _credentials(settings: Settings) -> str:
    """Return which credentials clients may send.

    The result is "passwords", "tokens" (passwords are accepted too) or "silly" (any credential).
    """
    if settings.auth.silly is not None:
        return "silly"
    if settings.auth.token is not None:
        return "tokens"
    is_issuing = settings.auth.htpasswd is not None and settings.auth.htpasswd.token
    return "tokens" if is_issuing else "passwords"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that all programs inherit, such as the time zone and PATH.

    Passwords are removed from proxy variables such as HTTPS_PROXY. The programs that need these
    passwords read them from a file.
    """
    return {
        name: value
        for name, value in without_passwords(environ).items()
        if not name.startswith(_OURS) and name not in _OUR_NAMES
    }
