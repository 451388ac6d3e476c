"""A logger that was suspended for a while misses no line of the access log.

The times of last use survive the loss of the index.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import pull, pull_blob
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

NAME = "one.test/app"
HOUR = 3600
ROTATIONS = 3
_CLIENTS, _REQUESTS = 16, 500
# the access log may use 1 % of the cap, so it is rotated after few lines
SMALL_LOG = {"CLEANER_MAXSIZE": "50M", "CLEANER_RUNEVERY_TIME": "1s"}


def test_a_stopped_logger_counts_every_request_after_rotations_of_the_log(
    start: Start, fake: FakeUpstream
) -> None:
    """If the log is rotated while the logger is suspended, each line is still counted once.

    The test compares counters and times of last use with the requests that it sent.
    """
    image = fake.put_image("app", "v1", of_size(64 * KB, 500))
    blobs = [Digest.of(blob) for blob in image.blobs]
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=SMALL_LOG))
    pull(appliance.http, NAME, "v1")
    eventually(lambda: _counted(appliance, "blob") == len(blobs), what="the pull is counted")

    _stop_logger(appliance)
    sent = _rotate(appliance, blobs)
    last, began = blobs[::-1], int(time.time() * 1000) / 1000  # HAProxy logs times in ms
    for digest in last:
        pull_blob(appliance.http, NAME, digest)
    appliance.kill_program("logger", signal.SIGKILL)

    expected = len(blobs) + sent + len(last)
    eventually(
        lambda: _counted(appliance, "blob") >= expected,
        what="all requests are counted",
        within=60,
        # Each request for /metrics adds a log line. Too many such lines would cause a rotation of
        # the small log, which could delete lines that the logger has not read.
        pause=0.5,
    )
    assert _counted(appliance, "blob") == expected
    lost = ("entrepot_log_dropped", "entrepot_log_gaps", "entrepot_log_unreadable")
    assert [appliance.metric(f"{name}_total") for name in lost] == [0, 0, 0]
    used = _last_uses(appliance, last)
    assert [used[digest] for digest in last] == sorted(used.values())
    assert min(used.values()) >= began


def test_no_line_of_two_threads_of_haproxy_is_lost(start: Start, fake: FakeUpstream) -> None:
    """If two threads of HAProxy respond at the same time, all of their log lines are counted."""
    image = fake.put_image("app", "v1", of_size(64 * KB, 503))
    environment = {"ENTREPOT_THREADS": "2", "CLEANER_MAXSIZE": "1G"}
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=environment))
    pull(appliance.http, NAME, "v1")
    eventually(lambda: _counted(appliance, "blob") == len(image.blobs), what="the pull is counted")
    path = f"/v2/{NAME}/blobs/{Digest.of(image.blobs[0])}"

    with ThreadPoolExecutor(_CLIENTS) as clients:
        sent = list(clients.map(lambda _: _requested(appliance, path), range(_CLIENTS)))

    assert sent == [_REQUESTS] * _CLIENTS
    expected = len(image.blobs) + sum(sent)
    eventually(lambda: _counted(appliance, "blob") >= expected, what="all lines arrive", within=60)
    assert _counted(appliance, "blob") == expected
    assert appliance.metric("entrepot_log_dropped_total") == 0
    found = appliance.program("haproxy")
    assert found
    assert len(os.listdir(f"/proc/{found.pid}/task")) == 2  # noqa: PTH208 - names are enough


def _requested(appliance: Appliance, path: str) -> int:
    """Pipeline many requests for *path* on one connection; return the number of 200 responses."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", appliance.http.port), timeout=60) as connection:
        connection.sendall(request * (_REQUESTS - 1))
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return b"".join(iter(lambda: connection.recv(65536), b"")).count(b"HTTP/1.1 200 OK")


def test_nothing_is_evicted_without_a_recent_log_barrier(start: Start, fake: FakeUpstream) -> None:
    """While the logger is suspended nothing is evicted for age, because uses are not recorded."""
    used = fake.put_image("app", "used", of_size(64 * KB, 501))
    unused = fake.put_image("app", "unused", of_size(64 * KB, 502))
    ttl = {"CLEANER_TTL": "2s", "CLEANER_RUNEVERY_TIME": "1s"}
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=ttl))
    pull(appliance.http, NAME, "used")
    eventually(lambda: _counted(appliance, "blob") == len(used.blobs), what="the logger runs")
    _stop_logger(appliance)
    pull(appliance.http, NAME, "unused")
    probes = _probes(appliance)

    eventually(
        lambda: pull(appliance.http, NAME, "used") and _probes(appliance) >= probes + 2,
        what="the cleaner waits for the logger, in vain",
        within=60,
    )

    assert _all_here(appliance, used)
    assert _all_here(appliance, unused)
    appliance.kill_program("logger", signal.SIGKILL)
    eventually(
        lambda: pull(appliance.http, NAME, "used") and not _any_here(appliance, unused),
        what="the unused image is evicted once the logger runs",
        within=40,
    )
    assert _all_here(appliance, used)
    assert fake.count("GET", f"/blobs/{Digest.of(used.layers[0])}") == 1


def test_the_order_of_eviction_survives_the_loss_of_the_index(
    start: Start, fake: FakeUpstream
) -> None:
    """A rebuilt index takes the order of eviction from the times of the stored files.

    The logger sets a file's time to the time of the file's last use.
    """
    images = [fake.put_image("app", f"v{n}", of_size(64 * KB, 510 + n)) for n in range(5)]
    appliance = start(Setup({"one.test": {"url": fake.url}}))
    for number in range(len(images)):
        pull(appliance.http, NAME, f"v{number}")
    assert appliance.stop() == 0
    _age(appliance, images)
    _delete_index(appliance)

    appliance.start()
    layers = [Digest.of(image.layers[0]) for image in images]
    eventually(lambda: _by_last_use(appliance, layers) == layers, what="the index is rebuilt")
    for number in (2, 0):
        pull(appliance.http, NAME, f"v{number}")
    expected = [layers[number] for number in (1, 3, 4, 2, 0)]
    eventually(lambda: _by_last_use(appliance, layers) == expected, what="the uses are recorded")
    assert appliance.stop() == 0
    _delete_index(appliance)
    appliance.start()

    eventually(lambda: len(_by_last_use(appliance, layers)) == len(layers), what="a second rebuild")
    assert _by_last_use(appliance, layers) == expected


def test_metrics_have_the_names_of_distribution_and_our_own(
    shared: Appliance, public: Registry
) -> None:
    """`/metrics` has the metrics of docker distribution's proxy, and Entrepot's (`entrepot_...`).

    The numbers are exact, because no other test of this file pulls from the shared appliance.
    """
    image = public.push("logger/app", "v1", of_size(64 * KB, 503))
    pull(shared.http, "one.test/logger/app", "v1")
    pull(shared.http, "one.test/logger/app", "v1")
    size = sum(len(blob) for blob in image.blobs)
    eventually(lambda: _counted(shared, "blob") == 4, what="both pulls are counted")

    counts = {
        name: shared.metric(f"registry_proxy_{name}_total", type="blob")
        for name in ("requests", "hits", "misses", "pulled_bytes")
    }

    assert counts == {"requests": 4, "hits": 2, "misses": 2, "pulled_bytes": size}
    assert shared.metric("registry_proxy_pushed_bytes_total", type="blob") >= 2 * size
    assert any(name.startswith("entrepot_") for name in shared.metrics())


def _stop_logger(appliance: Appliance) -> None:
    """Suspend the logger at a moment at which it does not lock the index."""
    index = open_index(appliance.state)

    def is_stopped() -> bool:
        appliance.kill_program("logger", signal.SIGSTOP)
        with suppress(IndexUnavailable):
            index.touch({})
            return True
        appliance.kill_program("logger", signal.SIGCONT)
        return False

    eventually(is_stopped, what="the logger stops between two commits")
    index.close()


def _rotate(appliance: Appliance, blobs: Sequence[Digest]) -> int:
    """Pull blobs until the access log was rotated ROTATIONS times; return the number of pulls."""
    log = appliance.state / layout.ACCESS_LOG
    inodes = {log.stat().st_ino}
    sent = 0
    while len(inodes) <= ROTATIONS:
        pull_blob(appliance.http, NAME, blobs[sent % len(blobs)])
        sent += 1
        inodes.add(_inode(log))
        assert sent < 20_000, "the log never rotates"
    return sent


def _inode(path: Path) -> int:
    """Return the inode of *path*; wait while a rotation has moved the file away."""

    def look() -> int:
        with suppress(FileNotFoundError):
            return path.stat().st_ino
        return 0

    return eventually(look, what="the access log exists again")


def _counted(appliance: Appliance, kind: str) -> float:
    return appliance.metric("entrepot_cache_answers_total", kind=kind)


def _probes(appliance: Appliance) -> int:
    """Return how many requests the cleaner has sent to learn whether the logger is up to date."""
    log = appliance.state / layout.ACCESS_LOG
    return log.read_text().count("/healthz?news=")


def _last_uses(appliance: Appliance, digests: Sequence[Digest]) -> dict[Digest, float]:
    index = open_index(appliance.state)
    return {each.digest: each.used for each in index.oldest(None, 1000) if each.digest in digests}


def _by_last_use(appliance: Appliance, digests: Sequence[Digest]) -> list[Digest]:
    """Return the members of *digests* that have a row in the index, in the order of eviction."""
    index = open_index(appliance.state)
    return [entry.digest for entry in index.oldest(None, 1000) if entry.digest in digests]


def _age(appliance: Appliance, images: Sequence[Image]) -> None:
    """Set the times of the images' files to hours ago; the first image becomes the oldest."""
    newest = (appliance.data / layout.blob(images[0].digest)).stat().st_mtime
    for hours, image in zip(range(20, 0, -2), images, strict=False):
        for digest in (image.digest, *(Digest.of(blob) for blob in image.blobs)):
            at = newest - hours * HOUR
            os.utime(appliance.data / layout.blob(digest), (at, at))


def _delete_index(appliance: Appliance) -> None:
    for path in appliance.state.glob(f"{layout.INDEX}*"):
        path.unlink()


def _all_here(appliance: Appliance, image: Image) -> bool:
    return all((appliance.data / layout.blob(Digest.of(blob))).exists() for blob in image.blobs)


def _any_here(appliance: Appliance, image: Image) -> bool:
    return any((appliance.data / layout.blob(Digest.of(blob))).exists() for blob in image.blobs)
