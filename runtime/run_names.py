"""Define the names of the sockets, pipes and files in the run directory.

The files haproxy.cfg and supervisord.conf repeat these names, because they cannot import them; a
test compares the names. The module `appliance.rundir` creates and finds the run directory.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "entrepot-"
"""The name of a run directory, which is in the system's temporary folder, begins with this prefix.
"""

SETTINGS: Final = "settings.json"
"""This file contains the settings, which every program reads."""

PROXIES: Final = "proxies.json"
"""This file contains the HTTP proxies for outgoing requests, with their passwords."""

RUN_STATE: Final = "record.json"
"""This file contains facts about the start of the appliance, which `entrepot status` shows."""

STATE: Final = "state.json"
"""This file contains the appliance's overall state. `serve` writes it while programs request the
state."""

STATE_REQUEST: Final = "state.request"
"""A program touches this file to request the overall state."""

RIGHTS: Final = "rights.yml"
"""This file contains the last valid access rules and users."""

PASSWORDS: Final = "htpasswd"
"""This file contains the last valid content of the password file."""

PULL_SECRET: Final = "last-pull-secret.json"  # noqa: S105 - a name
"""This file contains the last valid pull secret."""

SIGNING_ROOTS: Final = "rootcertbundle"
"""This file contains the last valid bundle of certificates whose keys verify tokens."""

SIGNING_KEYS: Final = "jwks"
"""This file contains the last valid set of keys that verify tokens."""

OWN_KEY: Final = "own-key.pem"
"""This file contains a temporary key for the token endpoint if the permanent key is unusable."""

CERTIFICATE: Final = "certs.pem"
"""HAProxy reads the certificate with its key from this file."""

CLIENT_AUTHORITIES: Final = "client-cas.pem"
"""HAProxy reads the CAs of client certificates from this file."""

HEALTH: Final = "health.json"
"""This file contains the failing health checks, which `entrepot.runtime.health` reads."""

HEALTH_MAP: Final = "health.map"
"""HAProxy reads this file at its start; the file states whether a health check fails."""

CACHE_EPOCH: Final = "generation"
"""This file contains the cache epoch. Workers map the file into memory, and HAProxy reads it."""

BREAKERS: Final = "breakers"
"""This folder contains the states of the circuit breakers."""

METRICS: Final = "metrics.prom"
"""This file contains the metrics, which the logger writes and the workers serve."""

LOG_PIPES: Final = ("access.pipe", "access2.pipe", "access3.pipe", "access4.pipe")
"""The pipes through which the threads of HAProxy send their log lines."""

ADMIN_SOCKET: Final = "admin.sock"
"""HAProxy receives commands on this socket."""

FRONT_SOCKET: Final = "front.sock"
"""HAProxy listens on this socket for the appliance's own requests."""

SUPERVISOR_SOCKET: Final = "supervisor.sock"
"""supervisord receives requests on this socket."""

WAKE_SOCKET: Final = "cleaner.sock"
"""Workers wake the cleaner through this datagram socket."""

WORKER_SOCKETS: Final = "worker*.sock"
"""The names that `worker_socket` returns match this pattern."""


def worker_socket(number: int) -> str:
    """Return the name of a worker's socket; the first *number* is 1."""
    return f"worker{number}.sock"


def blob_socket(number: int) -> str:
    """Return the name of a worker's socket for bodies of blobs; the first *number* is 1."""
    return f"blobs{number}.sock"


def error_file(status: int) -> str:
    """Return the name of the file with the complete response that HAProxy sends for an error."""
    return f"{status}.http"
