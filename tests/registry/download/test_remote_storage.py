"""With a bucket, clients get a verified blob before its commit to the bucket has ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import DigestMismatch, StorageBroken
from entrepot.datastore.refs import Digest
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, read_all, task
from tests.registry.remotes import FakeRemote

KEY = layout.blob(DIGEST)


@dataclass
class Sent:
    """A local file that is sent to the storage; it records the progress that the writer reports."""

    storage: Remote
    path: Path
    key: str
    lengths: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def reached(self, length: int) -> None:
        """Record the length in bytes that the local file has reached."""
        self.lengths.append(length)

    def commit(self, size: int) -> None:
        """Store the file in the storage as soon as the test has set the event `lands`."""
        assert self.path.stat().st_size == size
        self.storage.committing.set()
        assert self.storage.lands.wait(60)
        if self.storage.error is not None:
            raise self.storage.error
        self.storage.commit_file(self.path, self.key)
        self.ends.append("committed")

    def abort(self) -> None:
        """Record that the download ended without a commit."""
        if not self.ends:
            self.ends.append("aborted")


class Remote(MemoryStorage):
    """A storage that simulates a bucket; a commit waits until the test sets the event `lands`.

    `looked` counts the reads of the blob with the key KEY.
    """

    is_remote = True

    def __init__(self) -> None:
        super().__init__()
        self.committing, self.lands = threading.Event(), threading.Event()
        self.error: StorageBroken | None = None
        self.sent: list[Sent] = []
        self.looked = 0

    def begin_file(
        self, path: Path, key: str, digest: Digest | None = None, size: int | None = None
    ) -> Sent:
        """Return the `Sent` to which the writer reports the progress of the file."""
        del digest, size
        self.sent.append(Sent(self, path, key))
        return self.sent[-1]

    def open(self, key: str) -> BinaryIO:
        """Open the value of *key*; if *key* is KEY, count the read."""
        self.looked += key == KEY
        return super().open(key)


@pytest.fixture
def storage() -> Remote:
    """Return the storage that all workers share."""
    return Remote()


@pytest.fixture
def bench(tmp_path: Path, storage: Remote) -> Bench:
    """Return a data directory whose blobs are in the simulated bucket."""
    return Bench(tmp_path, disk=storage)


def test_the_last_byte_is_sent_before_the_commit(bench: Bench, storage: Remote) -> None:
    """Clients of two workers get all bytes of a blob before the bucket has stored it."""
    ours, other = bench.worker(), bench.worker()
    remote = FakeRemote(CONTENT, until=1)
    waiting = [worker.join(task(remote)) for worker in (ours, other)]
    remote.let(None)

    for reader in waiting:
        assert read_all(reader) == CONTENT
    assert storage.committing.wait(60)
    for worker in (ours, other):
        assert read_all(worker.join(task(remote))) == CONTENT
        assert b"".join(read(worker.join(task(remote)), 100, len(CONTENT))) == CONTENT[100:]
    assert not storage.lands.is_set()
    assert storage.looked == 0
    assert remote.starts == [0]

    storage.lands.set()
    eventually(lambda: bench.spooled == [])
    assert read_all(ours.join(task(remote))) == CONTENT
    assert storage.sent[0].ends == ["committed"]
    assert storage.sent[0].lengths[-1] == len(CONTENT)
    assert remote.starts == [0]


def test_one_download_runs_until_its_commit(bench: Bench, storage: Remote) -> None:
    """If a client requests a blob that is being committed, no worker starts a second download."""
    remote = FakeRemote(CONTENT)
    read_all(bench.worker().join(task(remote)))
    assert storage.committing.wait(60)

    second, is_ours = bench.worker().begin(task(remote))

    assert (second, is_ours) == (None, False)
    storage.lands.set()
    eventually(lambda: [event["outcome"] for event in bench.events] == ["stored"])


def test_a_blob_is_linked_for_each_reader_after_the_commit(bench: Bench, storage: Remote) -> None:
    """Each reader's repository gets its link to a blob only after the commit of the blob.

    So no link refers to a missing blob.
    """
    worker, linked = bench.worker(), []
    remote = FakeRemote(CONTENT)
    reader = worker.join(task(remote))
    reader.on_stored = lambda: linked.append(bench.blobs.stat(DIGEST) is not None)
    read_all(reader)
    assert linked == []

    storage.lands.set()

    eventually(lambda: linked == [True])


def test_wrong_bytes_are_not_released(bench: Bench, storage: Remote) -> None:
    """If a blob has a wrong digest, the worker does not send its last byte to clients.

    The blob is not stored.
    """
    remote = FakeRemote(CONTENT[:-1] + b"x")

    with pytest.raises(DigestMismatch):
        read_all(bench.worker().join(task(remote)))

    assert not storage.committing.is_set()
    eventually(lambda: storage.sent[0].ends == ["aborted"])


def test_a_reader_ends_although_the_commit_fails(bench: Bench, storage: Remote) -> None:
    """If the bucket does not store a blob, the client still gets all of its verified bytes."""
    storage.error = StorageBroken("the storage does not answer")
    remote = FakeRemote(CONTENT)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    first = next(body)
    assert storage.committing.wait(60)
    storage.lands.set()
    eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])

    assert first + b"".join(body) == CONTENT
    assert remote.starts == [0]
    assert bench.spooled == []


def test_the_next_writer_commits_a_verified_spool_file(bench: Bench, storage: Remote) -> None:
    """If a worker dies during a commit to the bucket, the next worker commits the spool file.

    The mode of the spool file shows that its digest is verified, so the next worker sends no
    request to the upstream.
    """
    remote = FakeRemote(CONTENT)
    dead = bench.worker()
    dead.path(DIGEST).parent.mkdir(parents=True)
    dead.path(DIGEST).write_bytes(CONTENT)
    dead.path(DIGEST).chmod(0o744)
    storage.lands.set()

    assert read_all(bench.worker().join(task(remote))) == CONTENT

    eventually(lambda: bench.blobs.stat(DIGEST) is not None and bench.spooled == [])
    assert remote.starts == []
