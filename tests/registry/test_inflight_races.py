"""Tests of races between a download's writer and its readers, and of errors in a download."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.memory_parts import MemoryNotes, MemoryReservations
from entrepot.datastore.errors import DigestMismatch, NotFound, StorageBroken
from entrepot.datastore.locks import LockedFile, try_lock
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import TimedStat
from entrepot.registry.download import singleflight
from entrepot.registry.download.singleflight import SingleFlight
from entrepot.registry.download.spoolfile import read_size, size_path
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import Absent, Denied, Unavailable
from entrepot.runtime.reused_threads import ReusedThreads
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, read_all, task
from tests.registry.remotes import QUICK, FakeRemote


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty data directory."""
    return Bench(tmp_path)


def locked(worker: SingleFlight) -> LockedFile:
    """Lock the spool file of the blob, as the writer of a download in another worker does."""
    held = try_lock(worker.path(DIGEST))
    assert held
    return held


def test_a_resumed_download_without_space_is_sent_from_its_first_byte(bench: Bench) -> None:
    """If a resumed download finds no disk space, the client still gets the whole blob.

    The upstream's open response begins in the middle of the blob, so the worker sends another
    request for the whole blob.
    """
    bench.reservations = len(CONTENT) - 1
    worker = bench.worker()
    left = locked(worker)
    left_path = worker.path(DIGEST)
    left_path.write_bytes(CONTENT[:4000])
    left.close()
    reader = worker.join(task(FakeRemote(CONTENT)))
    eventually(lambda: bench.spooled == [])

    assert read_all(reader) == CONTENT


@pytest.mark.parametrize("front", [b"", CONTENT[:4000]], ids=["from the start", "resumed"])
def test_an_unused_body_keeps_no_connection(bench: Bench, front: bytes) -> None:
    """If a prefetch cannot be stored, the worker closes its connection to the upstream at once.

    The connection does not stay open until Python's garbage collection.
    """
    bench.reservations = len(CONTENT) - 1
    worker, remote = bench.worker(), FakeRemote(CONTENT)
    left = locked(worker)
    worker.path(DIGEST).write_bytes(front)
    left.close()
    gc.disable()
    try:
        worker.begin(replace(task(remote), is_ahead=True))
        eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])
        eventually(lambda: not remote.held)
    finally:
        gc.enable()

    assert remote.starts == [len(front)]


class _Watched(Filesystem):
    """A disk that calls `on_absence` when the thread `whom` finds no file.

    A commit waits until the test sets the event `lands`.
    """

    on_absence: Callable[[], object] = staticmethod(lambda: None)
    whom: threading.Thread | None = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lands = threading.Event()

    def stat(self, key: str) -> TimedStat | None:
        found = super().stat(key)
        if found is None:
            self._notify()
        return found

    def open(self, key: str) -> BinaryIO:
        try:
            return super().open(key)
        except NotFound:
            self._notify()
            raise

    def commit_file(self, path: Path, key: str) -> None:
        self.lands.wait(20)
        super().commit_file(path, key)

    def _notify(self) -> None:
        if threading.current_thread() is self.whom:
            self.on_absence()


def test_a_blob_committed_during_a_check_is_not_fetched_again(bench: Bench) -> None:
    """If a blob is committed while a reader looks for it, the reader starts no second download.

    The reader first finds no blob and a moment later finds no writer. The writer can have committed
    the blob in between, so the reader must look for the blob once more.
    """
    bench.disk = disk = _Watched(bench.root)
    remote = FakeRemote(CONTENT)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    got = b""
    while len(got) < len(CONTENT) - 1:
        got += next(body)

    def land() -> None:
        disk.lands.set()
        eventually(lambda: bool(bench.events))

    disk.on_absence, disk.whom = land, threading.current_thread()

    assert got + b"".join(body) == CONTENT
    assert remote.starts == [0]


def test_an_empty_spool_file_of_a_late_worker_is_not_read(bench: Bench) -> None:
    """If a worker creates an empty spool file after the blob was stored, readers ignore the file.

    A worker creates such a file when it locks a download that has just ended.
    """
    remote = FakeRemote(CONTENT, until=1)
    bench.worker().join(task(remote))
    worker = bench.worker()
    reader = worker.join(task(remote))
    remote.let(None)
    eventually(lambda: bench.blobs.stat(DIGEST) is not None and bench.spooled == [])
    with locked(worker):
        got = b"".join(read(reader, 0, len(CONTENT)))

    assert got == CONTENT


def test_an_unwritten_size_file_means_no_response_yet(tmp_path: Path) -> None:
    """If the file with a download's size is empty, the upstream has not responded yet.

    Readers wait in this case, as if the file did not exist.
    """
    size_path(tmp_path / "spooled").touch()

    with pytest.raises(FileNotFoundError):
        read_size(tmp_path / "spooled")


class _Flaky(Filesystem):
    """A disk whose first `stat` fails."""

    refuses = True

    def stat(self, key: str) -> TimedStat | None:
        if self.refuses:
            self.refuses = False
            raise StorageBroken("input/output error")
        return super().stat(key)


def test_a_download_that_fails_to_begin_releases_its_lock(bench: Bench) -> None:
    """If a download fails before its first request, it releases the lock of its spool file.

    So the next client can start the download.
    """
    bench.disk = _Flaky(bench.root)
    worker = bench.worker()
    with pytest.raises(StorageBroken):
        worker.join(task(FakeRemote(CONTENT)))

    assert read_all(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT


def test_a_download_without_a_thread_releases_its_lock(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Python cannot start the writer thread, the lock of the spool file is released.

    So the next download can begin.
    """

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = bench.worker()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StorageBroken):
            worker.join(task(FakeRemote(CONTENT)))

    assert read_all(worker.join(task(FakeRemote(CONTENT)))) == CONTENT


def test_a_refusal_that_is_being_reported_does_not_block_another_repository(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull can begin while another repository's failed download of the same blob is ending.

    The upstream has denied the blob to the other repository.
    """
    # With `idle_s=0` the thread of a download ends with the download, so the test can join it.
    monkeypatch.setattr(singleflight, "ReusedThreads", lambda: ReusedThreads(idle_s=0))
    go_on, remote = threading.Event(), FakeRemote(CONTENT, until=1)
    writers: list[threading.Thread] = []

    def slowly(*, outcome: str, **_: Any) -> None:
        if outcome == "failed":
            writers.append(threading.current_thread())
            go_on.wait(20)

    worker = bench.worker(slowly)
    with pytest.raises(Absent):
        worker.join(task(FakeRemote(CONTENT, refusals=[Absent("fake", "not under this name")])))
    reader = worker.join(task(remote))
    go_on.set()
    writers[0].join(20)
    collapsed = worker.join(task(remote)).collapsed
    remote.let(None)

    assert collapsed
    assert read_all(reader) == CONTENT


class _Releasing(MemoryReservations):
    """Reservations that record, at each release, whether the spool file could be locked."""

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: 0, MemoryNotes())
        self.path = path
        self.was_free: list[bool] = []

    def release(self, digest: Digest) -> None:
        with ExitStack() as held:
            lock = try_lock(self.path)
            if lock:
                held.enter_context(lock)
            self.was_free.append(lock is not None)
        super().release(digest)


def test_a_reservation_is_released_before_another_download_begins(bench: Bench) -> None:
    """A failed download releases its reserved space before it releases the lock of the spool file.

    If it released the lock first, another worker could begin the same download before the space is
    released. For a moment both reservations would count and could exceed the cap.
    """
    released = _Releasing(bench.worker().path(DIGEST))
    bench.index.reservations = released
    with pytest.raises(DigestMismatch):
        read_all(bench.worker().join(task(FakeRemote(CONTENT[:-1] + b"!"))))

    assert released.was_free == [False]


def test_readers_of_a_dead_writer_do_not_share_a_refusal(bench: Bench) -> None:
    """Readers of a killed writer's blob get the rest even if the next writer is denied the blob.

    The upstream denies the blob to the next writer's repository, but not to the readers'
    repository.
    """
    bench.disk = disk = _Watched(bench.root)
    disk.lands.set()
    worker = bench.worker()
    with locked(worker):
        size_path(worker.path(DIGEST)).write_text(str(len(CONTENT)))
        worker.path(DIGEST).write_bytes(CONTENT[:4000])
        body = read(worker.join(task(FakeRemote(CONTENT))), 0, len(CONTENT))
        first = next(body)
    looks, third = iter(range(1000)), threading.Event()

    def refuse(_: int, __: int | None = None) -> Any:
        third.wait(20)
        raise Denied("fake", "not under this name")

    disk.on_absence, disk.whom = (
        lambda: third.set() if next(looks) == 2 else None,
        threading.current_thread(),
    )
    worker.begin(Task(DIGEST, (refuse,), "fake", "fake/private", limits=QUICK))

    assert first + b"".join(body) == CONTENT


def test_a_disk_error_during_a_wait_reaches_the_reader(bench: Bench) -> None:
    """If a disk error occurs while a reader waits for its writer, the reader fails at once."""
    worker = bench.worker()
    with locked(worker):
        reader = worker.join(task(FakeRemote(CONTENT)))
        (bench.root / "spool").rename(bench.root / "gone")
        (bench.root / "spool").touch()

        with pytest.raises(StorageBroken):
            reader.size()


def test_a_complete_file_of_unknown_size_is_committed_without_a_request(bench: Bench) -> None:
    """If a spool file already contains the whole blob, the next writer commits it.

    In this test the first writer died before the commit, and the upstream states no size. The next
    writer sends no request, because a range request for bytes after the last byte would always get
    416.
    """
    worker = bench.worker()
    with locked(worker):
        worker.path(DIGEST).write_bytes(CONTENT)
    remote = FakeRemote(CONTENT, tells_size=False)

    assert b"".join(read(worker.join(task(remote)), 0, None)) == CONTENT
    assert remote.starts == []


def test_an_empty_response_is_only_valid_for_the_empty_blob(bench: Bench) -> None:
    """If the upstream sends an empty body for a blob that is not empty, the download fails."""
    with pytest.raises(Unavailable):
        bench.worker().join(task(FakeRemote(b"")))
    eventually(lambda: bench.spooled == [])
