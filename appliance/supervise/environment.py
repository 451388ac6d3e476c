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
"""A registry worker has this many threads, and can handle as many requests at a time."""

MANY_FILES = 65536
"""A program of the appliance may open at most this many files; some systems allow a billion."""

# HAProxy needs these descriptors for listeners, health checks, the log and epoll.
_OTHER_FILES = 128
_REQUEST_FILES = 6  # One request in a registry worker may need this many descriptors.
# A worker keeps these threads for the health check, and for requests over its own socket.
_SPARE_THREADS = 16
# Only clients with few running requests may use these slots of a worker, so that clients with many
# requests cannot take all slots.
_SPARE_SLOTS = 64
# Once this fraction of all connections is in use, HAProxy refuses new connections from client
# addresses that have many.
_CROWDED = 7, 8
# If HAProxy may have fewer connections than this, no client address is refused for having many.
_MANY_CONNECTIONS = 4096
# Minimum and maximum number of log files: with several files, the lines are not lost at once if no
# logger reads them.
_LOG_FILES = (5, 10)
_LOG_SECONDS = 4
_LEAST_LOG_FILE = 16 * 1024
_GOOD_LOG_FILE = 512 * 1024
_OVERSHOOT = log_mover.PIECE  # A log file's size is checked only between two writes.
# The settings file contains the values of variables with these prefixes, some of which are secret,
# so the programs do not inherit the variables.
_OURS = ("REGISTRY_", "CLEANER_", "ENTREPOT_", "SUPERVISOR_", "DCS_")
_OUR_NAMES = ("PULLSECRETPATH", "IGNOREREGISTRYLIST", "REGISTRYDIR")


@dataclass(frozen=True, slots=True)
class LogShare:
    """A `LogShare` limits the access log: `file_bytes` of each file, and `backups`."""

    file_bytes: int
    backups: int

    @property
    def bytes_a_second(self) -> int:
        """Return the rate (bytes/s) at which lines fill all log files in `_LOG_SECONDS`."""
        return self.file_bytes * (self.backups + 1) // _LOG_SECONDS


@dataclass(frozen=True, slots=True)
class FileShare:
    """A `FileShare` limits what HAProxy may open: client `connections`, and `pipes` for bodies."""

    connections: int
    pipes: int


@dataclass(frozen=True, slots=True)
class Start:
    """A `Start` has facts known only at the start: run directory, address, and PEM file.

    `files` is the limit of open files for each program (`ulimit -n`). `client_authorities` is the
    PEM file of the CAs of client certificates, `debug` the address of the debug listener.
    """

    run: Path
    settings_file: Path
    address: str
    certificate: Path | None
    files: int
    client_authorities: Path | None = None
    debug: str | None = None


def log_share(budget: Budget) -> LogShare:
    """Return the size and number of access logs; they get three quarters of the logs' budget."""
    total = budget.log_bytes * 3 // 4
    fewest, most = _LOG_FILES
    files = min(most, max(fewest, total // _GOOD_LOG_FILE))
    return LogShare(max(_LEAST_LOG_FILE, total // files - _OVERSHOOT), files - 1)


def file_share(files: int, slots: int) -> FileShare:
    """Divide HAProxy's open files into connections and pipes.

    *slots* is the number of requests that all workers accept. A client connection needs two files,
    because HAProxy connects to a worker for it; a pipe needs two. HAProxy sends a body through a
    pipe, and loops at full CPU if no pipe is left. Therefore HAProxy gets one pipe for each body
    that it can send at a time, and one more, because HAProxy 2.6 never uses the last pipe.
    """
    pairs = (min(files, MANY_FILES) - _OTHER_FILES) // 2
    pipes = min(slots + 1, pairs // 2 + 1)
    return FileShare(pairs - pipes, pipes)


def worker_slots(files: int) -> int:
    """Return how many requests a worker accepts at a time, by its threads and by *files*.

    A request may need a client connection, a file in the store, one in the spool, and connections
    to an upstream. A worker that ran out of descriptors could neither read stored content nor
    accept a connection. Half of the descriptors are reserved for downloads of blobs, which have
    threads of their own.
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
        # HAProxy reads a time of 0 as no limit, so the least time is 1 ms.
        "ENTREPOT_DRAIN_MS": str(max(1, round(settings.http.draintimeout * 1000))),
        "ENTREPOT_EDGE_CACHE": "on" if settings.has_edge_cache else "off",
        "ENTREPOT_EDGE_CACHE_MIB": str(settings.http.edgecachesize // 2**20),
        "ENTREPOT_REDIRECTING": "on" if settings.has_redirects else "off",
        "ENTREPOT_HEALTH": "on" if settings.health.has_checks else "off",
        "ENTREPOT_STOP_S": str(math.ceil(settings.http.draintimeout) + 1),
        # The variable PYTHONSAFEPATH keeps Python from importing a folder "registry" or "config" of
        # the working directory.
        "PYTHONSAFEPATH": "1",
    }


def _threads(settings: Settings) -> dict[str, str]:
    """Return the variables for the threads of HAProxy; a unix socket can have only one listener."""
    threads = 1 if settings.http.net == "unix" else settings.http.threads
    further = {f"ENTREPOT_THREAD{number}": "on" for number in range(2, threads + 1)}
    return {"ENTREPOT_THREADS": str(threads)} | further


def _request_slots(settings: Settings, files: int) -> dict[str, int]:
    """Return how many requests of each kind a worker accepts at a time.

    All kinds of requests except "blob" share the worker's threads.
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
    """Return the number of connections above which addresses with many get no new ones."""
    if connections < _MANY_CONNECTIONS:
        return connections + 1
    return connections * _CROWDED[0] // _CROWDED[1]


def _write_access(settings: Settings) -> str:
    """Return which clients may write without a password: none, local ones ("loopback"), or all."""
    if settings.auth.protects:
        return "closed"
    return "loopback" if settings.http.addr.is_loopback else "open"


def _credentials(settings: Settings) -> str:
    """Return the credentials of clients: "passwords", "tokens" (passwords too), "silly" (any)."""
    if settings.auth.silly is not None:
        return "silly"
    if settings.auth.token is not None:
        return "tokens"
    is_issuing = settings.auth.htpasswd is not None and settings.auth.htpasswd.token
    return "tokens" if is_issuing else "passwords"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that all programs inherit: locale, time zone, PATH, ...

    Passwords are removed from proxy variables, because only the registry needs these passwords and
    reads them from a file.
    """
    return {
        name: value
        for name, value in without_passwords(environ).items()
        if not name.startswith(_OURS) and name not in _OUR_NAMES
    }
