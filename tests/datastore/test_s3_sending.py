"""Tests that a growing file is sent in parts, and becomes an object if its digest is right."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from entrepot.datastore.drivers.objects.part_memory import PartMemory
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.errors import ContentDamaged, StorageBroken
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.s3_front import Refused, S3Front, SlowDown, Stall
from tests.s3_signatures import Refusal
from tests.s3_storage import always_owned
from tests.system.waiting import eventually

pytestmark = pytest.mark.slow

KB = 1024
PART = 64 * KB


@pytest.fixture
def storage(s3: S3Front, tmp_path: Path) -> ObjectStorage:
    """Return the `s3` storage of one process, with small parts."""
    return always_owned(s3, tmp_path, chunksize=PART)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that grows."""
    return tmp_path / "growing"


def _grow(path: Path, content: bytes) -> int:
    """Append to a file, and return its length."""
    with path.open("ab") as file:
        file.write(content)
        return file.tell()


def _has_sent(s3: S3Front, parts: int) -> None:
    eventually(lambda: s3.count("PUT", "key") >= parts, what=f"{parts} parts were sent", within=60)


def test_parts_are_sent_while_the_file_grows(
    s3: S3Front, storage: ObjectStorage, path: Path
) -> None:
    """A part is sent as soon as the file has at least one byte after this part.

    The object exists only after the commit.
    """
    content = filler(5 * PART // 2, 1)
    sending = storage.begin_file(path, "key", Digest.of(content))
    sending.reached(_grow(path, content[:PART]))
    assert s3.requests == []

    sending.reached(_grow(path, content[PART : PART + 1]))
    _has_sent(s3, 1)
    sending.reached(_grow(path, content[PART + 1 : 2 * PART + 1]))
    _has_sent(s3, 2)
    assert s3.get("key") is None
    sending.commit(_grow(path, content[2 * PART + 1 :]))
    sending.abort()

    assert s3.get("key") == content
    assert s3.counts() == {"POST": 2, "PUT": 3, "HEAD": 1}
    assert not path.exists()
    assert storage.stat("key")
    _is_free(storage)


def test_a_file_that_is_given_up_leaves_no_parts(
    s3: S3Front, storage: ObjectStorage, path: Path
) -> None:
    """After `abort`, the bucket has no parts of the file, and the local file still exists."""
    sending = storage.begin_file(path, "key")
    sending.reached(_grow(path, filler(2 * PART, 2)))
    _has_sent(s3, 1)

    sending.abort()

    eventually(lambda: s3.count("DELETE", "key") == 1, what="the upload was aborted", within=60)
    assert "uploadId=" in next(each.query for each in s3.requests if each.method == "DELETE")
    assert s3.get("key") is None
    assert path.exists()
    _is_free(storage)


def _is_free(storage: ObjectStorage) -> None:
    """Wait until no part is in memory, which is a little later than the last response."""
    eventually(lambda: storage._client.memory.used == 0, what="no part is in memory", within=60)


@pytest.mark.parametrize("size", [PART // 2, 3 * PART])
@pytest.mark.parametrize("is_early", [True, False])
def test_a_file_with_other_bytes_does_not_become_an_object(
    s3: S3Front, storage: ObjectStorage, path: Path, size: int, *, is_early: bool
) -> None:
    """If a file does not have the expected digest, no object is created.

    No object is created even if parts of the file were sent before the commit.
    """
    sending = storage.begin_file(path, "key", Digest.of(b"others"))
    length = _grow(path, filler(size, 3))
    if is_early:
        sending.reached(length)

    with pytest.raises(ContentDamaged):
        sending.commit(length)

    assert s3.get("key") is None
    assert path.exists()


def test_a_part_that_fails_lets_the_whole_file_be_sent_anew(
    s3: S3Front, storage: ObjectStorage, path: Path
) -> None:
    """If a part cannot be sent while the file grows, the whole file is sent again at the commit."""
    content = filler(3 * PART, 4)
    s3.fault("PUT", "key", SlowDown(), times=1)
    sending = storage.begin_file(path, "key", Digest.of(content))
    sending.reached(_grow(path, content))

    sending.commit(len(content))

    assert s3.get("key") == content


def test_a_file_whose_parts_are_refused_stays(
    s3: S3Front, storage: ObjectStorage, path: Path
) -> None:
    """If the bucket refuses a part of a file, the commit raises the error and keeps the file."""
    s3.fault("PUT", "key", Refused(Refusal(403, "AccessDenied")))
    sending = storage.begin_file(path, "key")
    sending.reached(_grow(path, filler(3 * PART, 5)))

    with pytest.raises(StorageBroken, match="AccessDenied"):
        sending.commit(3 * PART)

    assert path.exists()
    assert s3.get("key") is None


def test_a_file_is_stored_when_the_service_answers_again(
    s3: S3Front, storage: ObjectStorage, path: Path
) -> None:
    """If the bucket works again while the circuit is open, a commit succeeds.

    The open circuit permits one request a second, and a successful request closes the circuit.
    """
    circuit = storage._client._circuit
    for size in (PART // 2, 3 * PART):
        circuit._next_probe = circuit._failed = 0.0
        storage.begin_file(path, "key").commit(_grow(path, filler(size, 8)))
        assert not circuit.is_open
        assert s3.get("key") == filler(size, 8)


# ---- memory


def test_parts_take_a_bounded_amount_of_memory(s3: S3Front, tmp_path: Path) -> None:
    """The parts of all files together use at most the configured amount of memory.

    A part uses memory until the bucket has responded. If the memory is used up, parts of other
    files wait.
    """
    storage = always_owned(s3, tmp_path, chunksize=PART)
    memory = storage._client.memory = PartMemory(2 * PART)
    stall = Stall(threading.Event())
    s3.fault("PUT", "", stall)
    contents = [filler(3 * PART, seed) for seed in (6, 7)]
    files = [tmp_path / f"file{number}" for number in range(2)]
    sendings = []
    for number, content in enumerate(contents):
        sending = storage.begin_file(files[number], f"key{number}", Digest.of(content))
        sending.reached(_grow(files[number], content))
        sendings.append(sending)
    eventually(lambda: s3.count("PUT") == 2, what="two parts are on their way", within=60)
    assert memory.used == 2 * PART

    stall.until.set()
    for number, sending in enumerate(sendings):
        sending.commit(3 * PART)
        assert s3.get(f"key{number}") == contents[number]
    _is_free(storage)


def test_memory_is_given_when_an_older_part_is_dropped() -> None:
    """If the memory is used up, a new part waits until an older part is dropped.

    A part that is larger than the limit waits until no other part is in use.
    """
    memory = PartMemory(100)
    first = memory.part(60, lambda: None)
    with pytest.raises(InterruptedError):
        memory.part(60, _interrupt)
    del first
    large = memory.part(500, lambda: None)
    with pytest.raises(InterruptedError):
        memory.part(1, _interrupt)
    assert len(large) == 500
    del large

    assert len(memory.part(100, lambda: None)) == 100
    assert memory.used == 0


def _interrupt() -> None:
    raise InterruptedError


def test_memory_that_the_machine_refuses_is_not_counted() -> None:
    """If the machine has no memory for a part, the bytes of this part do not count as used."""
    memory = PartMemory(100)

    with pytest.raises((MemoryError, OverflowError)):
        memory.part(2**62, lambda: None)

    assert memory.used == 0
