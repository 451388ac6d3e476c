"""What haproxy.cfg and supervisord.conf are told: environment variables, a pure function."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot.appliance.supervise import log_mover
from entrepot.config.outbound import without_passwords
from entrepot.config.schema import MOST_WORKERS, Settings
from entrepot.datastore.budget import Budget

WORKER_THREADS = 768
"""Threads of a registry worker: requests that it can answer at a time."""

MANY_FILES = 65536
"""Files that a program of ours may have open, where the system would allow a billion."""

_OTHER_FILES = 128  # HAProxy's listeners, checks, its log and its poller
_REQUEST_FILES = 6  # that one request may hold
_SPARE_THREADS = 16  # for the health check, and for who comes in over the worker's socket itself
_SPARE_PLACES = 64  # for addresses with few requests, where those with many take all others
_CROWDED = 7, 8  # of the connections: the rest is for addresses that have few
_MANY_CONNECTIONS = 4096  # with fewer, one address with many waits for them, and is not refused
_LOG_FILES = (5, 10)  # fewest and most: a dead logger's lines survive some rotations
_LOG_SECONDS = 4
_LEAST_LOG_FILE = 16 * 1024
_GOOD_LOG_FILE = 512 * 1024
_OVERSHOOT = log_mover.PIECE  # a file's size is looked at between two writes
# what configures us is in the settings now, and some of it is secret
_OURS = ("REGISTRY_", "CLEANER_", "ENTREPOT_", "SUPERVISOR_", "DCS_")
_OURS_WHOLE = ("PULLSECRETPATH", "IGNOREREGISTRYLIST", "REGISTRYDIR")


@dataclass(frozen=True, slots=True)
class LogShare:
    """How the access log rotates: `file_bytes` each, `backups` beside the one that grows."""

    file_bytes: int
    backups: int

    @property
    def bytes_a_second(self) -> int:
        """Bytes that lines without a use may take: then the log lasts for seconds."""
        return self.file_bytes * (self.backups + 1) // _LOG_SECONDS


@dataclass(frozen=True, slots=True)
class FileShare:
    """What HAProxy may have open at a time: `connections` of clients, `pipes` for bodies."""

    connections: int
    pipes: int


@dataclass(frozen=True, slots=True)
class Start:
    """What is known only at the start: the run directory, HAProxy's address, the certificate.

    `files` is how many each program may have open (`ulimit -n`).
    """

    run: Path
    settings_file: Path
    address: str
    certificate: Path | None
    files: int


def log_share(budget: Budget) -> LogShare:
    """Give three quarters of what logs may take to the access log; the rest is the events'."""
    total = budget.log_bytes * 3 // 4
    fewest, most = _LOG_FILES
    files = min(most, max(fewest, total // _GOOD_LOG_FILE))
    return LogShare(max(_LEAST_LOG_FILE, total // files - _OVERSHOOT), files - 1)


def file_share(files: int, slots: int) -> FileShare:
    """Share out what HAProxy may open; *slots* are the requests that all workers are given.

    A connection needs two files, for there is a worker's end to it, and a pipe two. A body that
    should have a pipe and gets none keeps HAProxy computing without rest: so there is one for each
    that moves at a time, and one more, for HAProxy 2.6 never uses the last.
    """
    pairs = (min(files, MANY_FILES) - _OTHER_FILES) // 2
    pipes = min(slots + 1, pairs // 2 + 1)
    return FileShare(pairs - pipes, pipes)


def worker_slots(files: int) -> int:
    """Return how many requests a worker is given at a time, of its threads and of *files*.

    A request may hold a connection, a file in the store, one in the spool, and connections to an
    upstream. A worker without descriptors could neither read what is stored nor accept anyone. Half
    of them are for blobs, which have threads of their own.
    """
    return max(min(WORKER_THREADS - _SPARE_THREADS, _blob_slots(files)), 3)


def _blob_slots(files: int) -> int:
    return max((files - _OTHER_FILES) // 2 // _REQUEST_FILES, 1)


def variables(settings: Settings, start: Start) -> dict[str, str]:
    """Return every ENTREPOT_* variable that the two files and our programs read."""
    places = _places(settings, start.files)
    front = file_share(start.files, sum(places.values()) * settings.http.workers)
    workers = {
        f"ENTREPOT_WORKER{number}": "enabled" if number <= settings.http.workers else "disabled"
        for number in range(1, MOST_WORKERS + 1)
    }
    return workers | {
        "ENTREPOT_RUN": str(start.run),
        "ENTREPOT_SETTINGS": str(start.settings_file),
        "ENTREPOT_PYTHON": sys.executable,
        "ENTREPOT_HAPROXY": str(shipped("haproxy.cfg")),
        "ENTREPOT_ADDRESS": start.address,
        "ENTREPOT_CERTIFICATE": str(start.certificate or "none"),
        "ENTREPOT_WORKER_MAXCONN": str(places["worker"]),
        "ENTREPOT_BLOB_MAXCONN": str(places["blob"]),
        "ENTREPOT_UPLOAD_MAXCONN": str(places["upload"]),
        "ENTREPOT_SPARE_MAXCONN": str(places["spare"]),
        "ENTREPOT_FEW": str(settings.limits.few),
        "ENTREPOT_CROWDED": str(_crowded(front.connections)),
        "ENTREPOT_GUESSES": str(settings.limits.logins),
        "ENTREPOT_OPEN": _openness(settings),
        "ENTREPOT_MAXCONN": str(front.connections),
        "ENTREPOT_MAXPIPES": str(front.pipes),
        # 0 would be no limit to HAProxy
        "ENTREPOT_DRAIN_MS": str(max(1, round(settings.http.draintimeout * 1000))),
        "ENTREPOT_STOP_S": str(math.ceil(settings.http.draintimeout) + 1),
        # a folder named registry or config where we were started is none of ours
        "PYTHONSAFEPATH": "1",
    }


def _places(settings: Settings, files: int) -> dict[str, int]:
    """Return how many requests of each kind a worker is given at a time.

    All but those for blobs share its threads.
    """
    slots = worker_slots(files)
    upload = min(settings.limits.bodies, max(slots // 4, 1))
    spare = min(_SPARE_PLACES, max(slots // 8, 1))
    return {
        "worker": slots - upload - spare,
        "blob": min(settings.limits.blobs, _blob_slots(files)),
        "upload": upload,
        "spare": spare,
    }


def _crowded(connections: int) -> int:
    """Return from how many connections on an address that has many gets no further one."""
    if connections < _MANY_CONNECTIONS:
        return connections + 1
    return connections * _CROWDED[0] // _CROWDED[1]


def _openness(settings: Settings) -> str:
    """Say who may write without a password: nobody, this machine, or whoever reaches us."""
    if settings.auth.htpasswd is not None:
        return "closed"
    return "loopback" if settings.http.addr.is_loopback else "open"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what programs keep of our own environment: locale, time zone, PATH, ...

    Proxies lose their passwords: the registry alone needs them, and has them from a file.
    """
    return {
        name: value
        for name, value in without_passwords(environ).items()
        if not name.startswith(_OURS) and name not in _OURS_WHOLE
    }


def shipped(name: str) -> Path:
    """Find haproxy.cfg or supervisord.conf: in the clone, or where an installation puts it."""
    in_clone = Path(__file__).resolve().parents[2] / name
    return in_clone if in_clone.is_file() else Path(sys.prefix) / "share" / "entrepot" / name
