"""A blob is requested once from its upstream, for all clients of all workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system import processes
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import spool_file
from tests.system.images import MB, scaled
from tests.system.pulls import Reader, blob_path, end_all, pull_blob
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

SIZE = scaled(8 * MB, 100 * MB)
CLIENTS = 12
TWO_WORKERS = {"ENTREPOT_WORKERS": "2"}
NAME = "one.test/app"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run the upstream of the shared appliance; each test uses a different blob."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance for the tests that kill none of its processes."""
    with Appliance(tmp_path_factory.mktemp("shared"), _two_workers(upstream)) as started:
        yield started


def test_twelve_clients_of_two_workers_cause_one_upstream_get(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """Twelve clients of two workers cause one request, because they read one spool file."""
    release, digest = _paused_at(upstream, SIZE // 4, seed=31)

    readers = [Reader(appliance.http, blob_path(NAME, digest)).begin() for _ in range(CLIENTS)]
    eventually(lambda: all(reader.received for reader in readers), what="all twelve clients read")
    in_use = _workers_that_read(appliance, digest)
    release.set()
    end_all(readers)

    assert all(reader.has(digest) for reader in readers)
    assert [each.method for each in upstream.find(None, str(digest))] == ["GET"]
    assert len(in_use) == 2


def test_a_killed_worker_breaks_only_its_own_responses_and_loses_no_byte(
    start: Start, fake: FakeUpstream
) -> None:
    """If a worker is killed, only its own responses break.

    The other worker continues the download at the end of the spool file.
    """
    second, digest = _paused_before(fake)
    _, _ = _paused_at(fake, SIZE // 2, times=1)
    appliance = start(_two_workers(fake))
    spool = spool_file(appliance.state, "one.test", digest)
    before = {each.pid for each in appliance.workers()}
    readers = [Reader(appliance.http, blob_path(NAME, digest)).begin() for _ in range(CLIENTS)]
    eventually(lambda: all(reader.received for reader in readers), what="all twelve clients read")
    eventually(lambda: fake.find("GET")[0].sent == SIZE // 2, what="the upstream has sent half")

    killed = _kill_the_writer(spool)
    eventually(lambda: fake.count("GET", str(digest)) == 2, what="the download is taken over")
    on_disk = spool.stat().st_size
    second.set()
    end_all(readers)

    assert fake.find("GET", str(digest))[1].headers["range"] == f"bytes={on_disk}-"
    assert 0 < on_disk <= SIZE // 2
    assert sum(reader.has(digest) for reader in readers) >= CLIENTS // 2
    assert not any(reader.is_whole and not reader.has(digest) for reader in readers)
    now = eventually(lambda: _workers_after(appliance, killed), what="the killed worker is back")
    assert before - {killed} < now
    assert len(pull_blob(appliance.http, NAME, digest)) == SIZE
    assert fake.count("GET", str(digest)) == 2


def test_clients_receive_bytes_before_the_upstream_has_sent_all(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """A client gets the first bytes of a blob before the upstream has sent the whole blob."""
    release, digest = _paused_at(upstream, SIZE // 20, seed=32)

    with appliance.http.open("GET", blob_path(NAME, digest)) as response:
        first = response.read(1)
        sent = upstream.find("GET", str(digest))[0].sent
        release.set()
        rest = response.read()

    assert sent < SIZE // 10
    assert digest == Digest.of(first + rest)


@pytest.mark.parametrize("leaves_at", [1, SIZE // 4], ids=["at once", "after a quarter"])
def test_a_disconnecting_client_does_not_end_the_download(
    appliance: Appliance, upstream: FakeUpstream, leaves_at: int
) -> None:
    """A client that disconnects does not end the download: the next client gets the whole blob."""
    release, digest = _paused_at(upstream, SIZE // 2, seed=leaves_at)
    with appliance.http.open("GET", blob_path(NAME, digest)) as response:
        response.read(leaves_at)

    release.set()
    whole = pull_blob(appliance.http, NAME, digest)

    assert len(whole) == SIZE
    assert upstream.count("GET", str(digest)) == 1


def test_a_restart_in_the_middle_resumes_the_download(start: Start, fake: FakeUpstream) -> None:
    """After a restart in the middle of a download, only the missing bytes are requested."""
    _, digest = _paused_at(fake, SIZE // 2, times=1)
    appliance = start(_two_workers(fake))
    spool = spool_file(appliance.state, "one.test", digest)
    reader = Reader(appliance.http, blob_path(NAME, digest)).begin()
    eventually(lambda: spool.exists() and spool.stat().st_size > 0, what="the spool file has bytes")
    appliance.kill()
    reader.end()
    on_disk = spool.stat().st_size

    appliance.start()
    whole = pull_blob(appliance.http, NAME, digest)

    assert len(whole) == SIZE
    assert fake.find("GET", str(digest))[1].headers["range"] == f"bytes={on_disk}-"


def _two_workers(fake: FakeUpstream) -> Setup:
    return Setup({"one.test": {"url": fake.url}}, environment=TWO_WORKERS)


def _paused_at(
    fake: FakeUpstream, after: int, times: int | None = None, *, seed: int = 30
) -> tuple[threading.Event, Digest]:
    """Add a blob to the upstream, which sends *after* bytes of it and then waits.

    Return the event that ends the wait, and the digest.
    """
    release = threading.Event()
    digest = fake.add_blob("app", filler(SIZE, seed))
    fake.misbehave(str(digest), method="GET", times=times, hold=release, hold_after=after)
    return release, digest


def _paused_before(fake: FakeUpstream) -> tuple[threading.Event, Digest]:
    """Add a blob to the upstream, which waits before it responds to a request for the blob.

    Return the event that ends the wait, and the digest.
    """
    release = threading.Event()
    digest = fake.add_blob("app", filler(SIZE, 30))
    fake.misbehave(str(digest), method="GET", hold=release)
    return release, digest


def _kill_the_writer(spool: Path) -> int:
    pid = eventually(lambda: processes.flock_holder(spool), what="a worker writes the download")
    os.kill(pid, signal.SIGKILL)
    return pid


def _workers_after(appliance: Appliance, killed: int) -> set[int]:
    pids = {each.pid for each in appliance.workers()}
    return pids if killed not in pids and len(pids) == 2 else set()


def _workers_that_read(appliance: Appliance, digest: Digest) -> set[int]:
    """Return the ids of the workers that have the spool file of the blob open."""
    name = spool_file(appliance.state, "one.test", digest).name
    return {
        worker.pid
        for worker in appliance.workers()
        if any(name in target for target in processes.open_files(worker.pid))
    }
