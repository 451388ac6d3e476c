"""Define the rows of the benchmark's table, and send the requests of rows with a warm cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench import load
from bench.address import ServerAddress
from bench.content import LARGE, MEDIUM, MIDDLE, SMALL, Image
from bench.figures import Unit
from bench.load import Outcome

CONNECTIONS = 8
MANY_CONNECTIONS = 16
SECONDS = 2
COLD_CLIENTS = 16
FIRST_BLOBS = 200
SLOW_CLIENTS = 1000
SLOW_RATE = 32 * 1024  # Each slow reader reads this many bytes per second.
PACE = 250  # Beside the slow readers, one client sends this many requests per second.
LINE_RATE = 20_000_000  # The bytes per second of each connection over the simulated line.
ROUND_TRIP = 0.05  # The round-trip time of the simulated line in seconds.
BLOB_CLIENTS, BLOB_TIMES, TLS_TIMES = 2, 16, 8
ROUNDS: Mapping[str, int] = {"blob-large": 9}
"""The number of rounds, by row, for rows whose samples vary so much that they need more rounds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; `note` describes the measurement."""

    title: str
    unit: Unit
    note: str = ""


_SIXTEEN = f"{MANY_CONNECTIONS} connections, each sends a request after each response"
_EIGHT = f"{CONNECTIONS} connections, each sends a request after each response"
ROWS: Mapping[str, Row] = {
    "manifest-digest": Row("manifest by digest, GET, warm", Unit.REQUEST, _EIGHT),
    "manifest-tag": Row("manifest by tag, GET, warm", Unit.REQUEST, _EIGHT),
    "head-tag": Row("tag, HEAD as containerd sends it, warm", Unit.REQUEST, _EIGHT),
    "manifest-login": Row(
        "manifest by digest, htpasswd at cost 10, warm",
        Unit.REQUEST,
        f"{_EIGHT}; nginx requires no password",
    ),
    "tag-login": Row("manifest by tag, htpasswd at cost 10, warm", Unit.REQUEST, _EIGHT),
    **{
        f"token-{algorithm}": Row(
            f"manifest by tag, a token seen before, {algorithm.upper()}, warm", Unit.REQUEST, _EIGHT
        )
        for algorithm in ("rs256", "es256")
    },
    **{
        f"token-new-{algorithm}": Row(
            f"manifest by tag, each request with a new token, {algorithm.upper()}, warm",
            Unit.REQUEST,
            _EIGHT,
        )
        for algorithm in ("rs256", "es256")
    },
    "manifest-events": Row(
        "manifest by digest, warm, an event for each request",
        Unit.REQUEST,
        f"{_EIGHT}; the cost includes the events; nginx sends no events",
    ),
    "blob-small": Row("blob of 4 kB, warm", Unit.REQUEST, _EIGHT),
    "blob-middle": Row("blob of 300 kB, warm", Unit.REQUEST, _SIXTEEN),
    "blob-medium": Row("blob of 4 MB, warm", Unit.REQUEST, _SIXTEEN),
    "worker-tag": Row(
        "manifest by tag, from a worker",
        Unit.REQUEST,
        f"{_SIXTEEN}; http.edgecache: false, so that HAProxy caches nothing",
    ),
    "many": Row(
        "10,000 manifests and 50,000 blobs, stored, Zipf 1.0",
        Unit.REQUEST,
        f"{_SIXTEEN}; blobs of 1 kB, five for each manifest",
    ),
    "blob-large": Row(
        "blob of 100 MB, warm, plain HTTP",
        Unit.GIGABYTE,
        f"{BLOB_CLIENTS} clients, {BLOB_TIMES} times each",
    ),
    "blob-tls": Row(
        "blob of 100 MB, warm, TLS",
        Unit.GIGABYTE,
        f"{BLOB_CLIENTS} clients, {TLS_TIMES} times each, TLS 1.3, HTTP/1.1",
    ),
    "cold-one": Row("one client, one cold blob of 100 MB", Unit.WHOLE),
    "cold-first": Row(
        "first byte of a cold blob of 4 kB, after the upstream's",
        Unit.DELAY,
        f"median of {FIRST_BLOBS} blobs, each requested from the server and from the upstream",
    ),
    "cold-clients": Row(
        f"{COLD_CLIENTS} clients, one cold blob of 100 MB", Unit.WHOLE, "all at once"
    ),
    "cold-line": Row(
        "cold pull of 196 MB over the simulated line",
        Unit.TIME,
        "20 MB/s a connection, a round trip of 50 ms; eight layers, three at a time as by dockerd",
    ),
    "slow-readers": Row(
        f"{SLOW_CLIENTS:,} clients reading slowly, a manifest meanwhile",
        Unit.LATENCY,
        f"each reads the blob of 100 MB at {SLOW_RATE // 1024} KiB/s;"
        f" one more client requests a manifest {PACE} times a second",
    ),
    "memory": Row("memory of all processes, idle after the start", Unit.MEMORY, "PSS"),
    "memory-after": Row("memory of all processes, after the warm rows", Unit.MEMORY, "PSS"),
    "start": Row("CPU of a start, until all processes are idle", Unit.WHOLE),
    "healthy": Row(
        "the image's health check, `entrepot healthy`", Unit.WHOLE, "median of nine runs"
    ),
    "idle": Row(
        "CPU of all idle processes",
        Unit.IDLE,
        "measured over one minute, from the kernel's scheduler",
    ),
}

Work = Callable[[ServerAddress], Outcome]


def warm(image: Image) -> dict[str, Work]:
    """Return, by row, the functions that send requests to a warm cache without login or TLS."""
    digest, tag = _manifest(image, image.digest), _manifest(image, "latest")

    def blob(address: ServerAddress, size: int) -> str:
        return address.blob(image.repository, image.blob(size))

    return {
        "manifest-digest": lambda address: get(address, digest(address)),
        "manifest-tag": lambda address: get(address, tag(address)),
        "head-tag": lambda address: load.head(
            address, tag(address), connections=CONNECTIONS, seconds=SECONDS
        ),
        "blob-small": lambda address: get(address, blob(address, SMALL)),
        "blob-middle": lambda address: get_many(address, blob(address, MIDDLE)),
        "blob-medium": lambda address: get_many(address, blob(address, MEDIUM)),
        "blob-large": lambda address: large(address, image, BLOB_CLIENTS, BLOB_TIMES),
    }


def from_worker(image: Image) -> dict[str, Work]:
    """Return the requests of the row in which HAProxy caches nothing, so that workers answer."""
    path = _manifest(image, "latest")
    return {"worker-tag": lambda address: get_many(address, path(address))}


def login(image: Image) -> dict[str, Work]:
    """Return the requests of the row whose clients send a password."""
    path = _manifest(image, image.digest)
    return {"manifest-login": lambda address: get(address, path(address))}


def tag_login(image: Image) -> dict[str, Work]:
    """Return the requests by tag with a password; the rows with tokens are compared with them."""
    path = _manifest(image, "latest")
    return {"tag-login": lambda address: get(address, path(address))}


def events(image: Image) -> dict[str, Work]:
    """Return the requests of the row in which Entrepot sends an event for each request."""
    path = _manifest(image, image.digest)
    return {"manifest-events": lambda address: get(address, path(address))}


def tls(image: Image) -> dict[str, Work]:
    """Return the requests of the row whose clients use TLS."""
    return {"blob-tls": lambda address: large(address, image, BLOB_CLIENTS, TLS_TIMES)}


def large(address: ServerAddress, image: Image, clients: int, times: int) -> Outcome:
    """Download the blob of 100 MB with *clients* clients, each *times* times."""
    path = address.blob(image.repository, image.blob(LARGE))
    return load.blobs(address, path, clients=clients, times=times, size=LARGE)


def _manifest(image: Image, reference: str) -> Callable[[ServerAddress], str]:
    return lambda address: address.manifest(image.repository, reference)


def get(address: ServerAddress, path: str) -> Outcome:
    """Repeat a GET request with wrk.

    Requests that have no response yet at the end of the run count too, because the server has
    spent CPU time on them.
    """
    return _get(address, path, CONNECTIONS)


def get_many(address: ServerAddress, path: str) -> Outcome:
    """Repeat a GET request with wrk, over more connections than `get` uses."""
    return _get(address, path, MANY_CONNECTIONS)


def _get(address: ServerAddress, path: str, connections: int) -> Outcome:
    outcome = load.get(address, path, connections=connections, seconds=SECONDS)
    return replace(outcome, requests=outcome.requests + connections)
