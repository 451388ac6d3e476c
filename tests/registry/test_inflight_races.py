"""One download a blob, when two things happen at once or one goes wrong in between."""

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
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import DigestMismatch, NotFound, StorageBroken
from entrepot.datastore.locks import LockedFile, try_lock
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat
from entrepot.registry.download.singleflight import SingleFlight
from entrepot.registry.download.spoolfile import read_size, size_path
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import Absent, Denied, Unavailable
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, task, whole
from tests.registry.remotes import QUICK, FakeRemote


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty data directory."""
    return Bench(tmp_path)


def locked(worker: SingleFlight) -> LockedFile:
    """Hold the spool file as another worker's writer does."""
    held = try_lock(worker.path(DIGEST))
    assert held
    return held


def test_a_resumed_download_without_room_is_passed_on_from_the_first_byte(bench: Bench) -> None:
    """What was left of the body began where the file ended, and was sent as if it were all."""
    bench.reservations = len(CONTENT) - 1
    worker = bench.worker()
    left = locked(worker)
    left_path = worker.path(DIGEST)
    left_path.write_bytes(CONTENT[:4000])
    left.close()
    reader = worker.join(task(FakeRemote(CONTENT)))
    eventually(lambda: bench.spooled == [])

    assert whole(reader) == CONTENT


@pytest.mark.parametrize("front", [b"", CONTENT[:4000]], ids=["from the start", "resumed"])
def test_a_body_that_nobody_takes_over_keeps_no_connection(bench: Bench, front: bytes) -> None:
    """What was fetched ahead and found no room held its lanes until all garbage was collected."""
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
    """A disk that calls `told` when one thread learns that something is absent.

    Nothing is adopted before `lands`.
    """

    told: Callable[[], object] = staticmethod(lambda: None)
    whom: threading.Thread | None = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lands = threading.Event()

    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        if found is None:
            self._tell()
        return found

    def open(self, key: str) -> BinaryIO:
        try:
            return super().open(key)
        except NotFound:
            self._tell()
            raise

    def commit_file(self, path: Path, key: str) -> None:
        self.lands.wait(20)
        super().commit_file(path, key)

    def _tell(self) -> None:
        if threading.current_thread() is self.whom:
            self.told()


def test_what_lands_while_a_reader_looks_is_not_asked_for_again(bench: Bench) -> None:
    """A reader that was told "not yet" and then saw the writer gone fetched the last byte anew."""
    bench.disk = disk = _Watched(bench.root)
    remote = FakeRemote(CONTENT)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    got = b""
    while len(got) < len(CONTENT) - 1:
        got += next(body)

    def land() -> None:
        disk.lands.set()
        eventually(lambda: bool(bench.events))

    disk.told, disk.whom = land, threading.current_thread()

    assert got + b"".join(body) == CONTENT
    assert remote.starts == [0]


def test_the_lock_of_a_late_worker_is_not_taken_for_the_blob(bench: Bench) -> None:
    """Whoever locks a spool file after it landed makes an empty one, for an instant."""
    remote = FakeRemote(CONTENT, until=1)
    bench.worker().join(task(remote))
    worker = bench.worker()
    reader = worker.join(task(remote))
    remote.let(None)
    eventually(lambda: bench.blobs.stat(DIGEST) is not None and bench.spooled == [])
    with locked(worker):
        got = b"".join(read(reader, 0, len(CONTENT)))

    assert got == CONTENT


def test_a_size_that_is_being_written_is_not_known_yet(tmp_path: Path) -> None:
    """A reader between the making and the writing of the file took the blob for endless."""
    size_path(tmp_path / "spooled").touch()

    with pytest.raises(FileNotFoundError):
        read_size(tmp_path / "spooled")


class _Flaky(Filesystem):
    """A disk that refuses to look once."""

    refuses = True

    def stat(self, key: str) -> Stat | None:
        if self.refuses:
            self.refuses = False
            raise StorageBroken("input/output error")
        return super().stat(key)


def test_a_download_that_could_not_begin_leaves_no_lock(bench: Bench) -> None:
    """The next client of the blob waited for a writer that never was."""
    bench.disk = _Flaky(bench.root)
    worker = bench.worker()
    with pytest.raises(StorageBroken):
        worker.join(task(FakeRemote(CONTENT)))

    assert whole(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT


def test_a_download_without_a_thread_leaves_no_lock(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So did it when the machine had no thread left to write."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = bench.worker()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StorageBroken):
            worker.join(task(FakeRemote(CONTENT)))

    assert whole(worker.join(task(FakeRemote(CONTENT)))) == CONTENT


def test_a_refusal_that_is_still_being_reported_stops_nobody_else(bench: Bench) -> None:
    """A client of another name asked again and again, until Python had no stack left."""
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
    assert whole(reader) == CONTENT


class _Releasing(MemoryIndex):
    """Tells whether others could have begun the download when its room was given back."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.was_free: list[bool] = []

    def release(self, digest: Digest) -> None:
        with ExitStack() as held:
            lock = try_lock(self.path)
            if lock:
                held.enter_context(lock)
            self.was_free.append(lock is not None)
        super().release(digest)


def test_room_is_given_back_before_anybody_else_begins(bench: Bench) -> None:
    """Another worker's promise for the same blob was taken back, and the cap exceeded by it."""
    bench.index = index = _Releasing(bench.worker().path(DIGEST))
    with pytest.raises(DigestMismatch):
        whole(bench.worker().join(task(FakeRemote(CONTENT[:-1] + b"!"))))

    assert index.was_free == [False]


def test_a_dead_writers_readers_do_not_share_a_refusal(bench: Bench) -> None:
    """The download was taken over under a name that may not see the blob, and failed for all."""
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

    disk.told, disk.whom = (
        lambda: third.set() if next(looks) == 2 else None,
        threading.current_thread(),
    )
    worker.begin(Task(DIGEST, (refuse,), "fake", "fake/private", limits=QUICK))

    assert first + b"".join(body) == CONTENT


def test_a_disk_that_breaks_while_somebody_waits_is_told(bench: Bench) -> None:
    """He goes on without it; nothing else would ever wake him."""
    worker = bench.worker()
    with locked(worker):
        reader = worker.join(task(FakeRemote(CONTENT)))
        (bench.root / "spool").rename(bench.root / "gone")
        (bench.root / "spool").touch()

        with pytest.raises(StorageBroken):
            reader.size()


def test_a_whole_file_of_unknown_length_is_asked_for_no_more(bench: Bench) -> None:
    """Its writer died before it landed: a range behind the end is an error, again and again."""
    worker = bench.worker()
    with locked(worker):
        worker.path(DIGEST).write_bytes(CONTENT)
    remote = FakeRemote(CONTENT, tells_size=False)

    assert b"".join(read(worker.join(task(remote)), 0, None)) == CONTENT
    assert remote.starts == []


def test_an_empty_answer_is_no_blob_but_the_empty_one(bench: Bench) -> None:
    """A body of no bytes has no last byte to hold back: it was complete, and wrong."""
    with pytest.raises(Unavailable):
        bench.worker().join(task(FakeRemote(b"")))
    eventually(lambda: bench.spooled == [])
