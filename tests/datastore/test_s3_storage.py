"""Tests that the driver `s3` sends few requests, and how it handles failures of the service."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.circuit import StorageCircuit
from entrepot.datastore.drivers.objects.client import Rejected
from entrepot.datastore.drivers.objects.setup import parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.errors import NotFound, StorageBroken
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
from tests.clock import Clock
from tests.images import filler
from tests.s3_front import ApplyLater, CutBody, LoseAnswer, Refused, S3Front, SlowDown
from tests.s3_signatures import Refusal
from tests.s3_storage import always_owned, parameters

pytestmark = pytest.mark.slow

KB = 1024
MB = 1024 * KB


@pytest.fixture
def storage(s3: S3Front, tmp_path: Path) -> ObjectStorage:
    """Return the `s3` storage of one process, with small parts."""
    return always_owned(s3, tmp_path, chunksize=64 * KB)


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_known_values_need_no_request(s3: S3Front, storage: ObjectStorage, tmp_path: Path) -> None:
    """If a short value was written or read earlier, no process needs a request to read it again.

    For a long value, only its size is known without a request.
    """
    storage.write("short", b"content")
    s3.put("read", b"foreign")
    storage.read("read")
    storage.commit_file(_file(tmp_path, filler(MB, 1)), "long")
    s3.forget()
    other = always_owned(s3, tmp_path)

    assert other.read("short") == b"content"
    assert other.read("read") == b"foreign"
    assert [stat.size for key in ("short", "read", "long") if (stat := other.stat(key))] == [
        7,
        7,
        MB,
    ]
    assert s3.requests == []
    with other.open("long") as file:
        assert file.read() == filler(MB, 1)
    assert s3.counts() == {"GET": 1}


def test_an_object_of_another_type_is_removed_before_it_is_replaced(
    s3: S3Front, storage: ObjectStorage, tmp_path: Path
) -> None:
    """If the service refuses to replace an object of another type, the object is removed first.

    Azure refuses to replace an append blob, which docker distribution writes, with a block blob.
    """
    refused = Refused(Refusal(409, "InvalidBlobType"))
    s3.put("short", b"old")
    s3.put("long", b"old")
    s3.fault("PUT", "short$", refused, times=1)
    s3.fault("PUT", "long$", refused, times=1)

    storage.write("short", b"new")
    storage.commit_file(_file(tmp_path, b"newer"), "long")

    assert (storage.read("short"), storage.read("long")) == (b"new", b"newer")
    assert [each.method for each in s3.requests if each.key == "short"] == [
        *("PUT", "HEAD", "DELETE", "PUT", "GET")
    ]


def test_a_write_to_an_absent_bucket_is_refused(s3: S3Front, tmp_path: Path) -> None:
    """If the bucket does not exist, a write raises Rejected with S3's error code."""
    storage = always_owned(s3, tmp_path, bucket="absent")
    file = _file(tmp_path, filler(6 * MB, 1))

    with pytest.raises(Rejected, match="NoSuchBucket"):
        storage.write("key", b"content")
    with pytest.raises(Rejected, match="NoSuchBucket"):
        storage.commit_file(file, "key")


def test_an_absent_value_is_asked_for_once(
    s3: S3Front, storage: ObjectStorage, tmp_path: Path
) -> None:
    """If a value is absent, only the first read sends a request, until the value is written.

    For example, a hosted repository has no origin, but each request for it reads the origin.
    """
    other = always_owned(s3, tmp_path)
    for _ in range(2):
        assert storage.stat("a") is None
        with pytest.raises(NotFound):
            other.read("b", 100)
    assert s3.counts() == {"HEAD": 1, "GET": 1}
    with pytest.raises(NotFound):
        other.open("a")

    storage.write("a", b"content")
    storage.commit_file(_file(tmp_path, b"file"), "b")

    assert (other.read("a"), other.read("b")) == (b"content", b"file")
    assert storage.delete("a")
    assert other.stat("a") is None


def test_a_long_file_is_sent_in_parts(s3: S3Front, storage: ObjectStorage, tmp_path: Path) -> None:
    """A long file is sent in parts, and a short one with one request.

    After each write, a HEAD compares the length of the object with that of the file.
    """
    content = filler(160 * KB, 2)
    storage.commit_file(_file(tmp_path, content), "long")
    assert s3.counts() == {"POST": 2, "PUT": 3, "HEAD": 1}
    assert s3.get("long") == content
    s3.forget()

    storage.commit_file(_file(tmp_path, b"short"), "short")
    assert s3.counts() == {"PUT": 1, "HEAD": 1}


def test_ranges_are_read_with_one_request_each(s3: S3Front, storage: ObjectStorage) -> None:
    """After a long seek, a read sends a range request; after a short seek forward it sends none."""
    content = filler(4 * MB, 3)
    s3.put("key", content)
    with storage.open("key") as file:
        s3.forget()
        for start, length in (
            (0, 1000),
            (100_000, 1000),
            (3 * MB, 5000),
            (10, 20),
            (4 * MB - 5, 99),
        ):
            file.seek(start)
            found = b""
            while piece := file.read(length - len(found)):
                found += piece
            assert found == content[start : start + length]

    assert s3.count("GET") == 3
    assert all("range" in each.headers for each in s3.requests)


def test_a_body_that_is_cut_continues_by_range(s3: S3Front, storage: ObjectStorage) -> None:
    """If the body of an object is cut off, the read continues with a range request.

    If too many bodies are cut off, the read raises an error.
    """
    content = filler(3 * MB, 4)
    s3.put("key", content)
    s3.fault("GET", "key", CutBody(MB), times=1)
    with storage.open("key") as file:
        assert file.read() == content
    assert s3.count("GET") == 2

    s3.fault("GET", "key", CutBody(100))
    with storage.open("key") as file, pytest.raises(OSError, match="cannot be read"):
        file.read()


def test_a_body_that_is_cut_again_and_again_is_read(s3: S3Front, storage: ObjectStorage) -> None:
    """If each response breaks before it has sent a whole chunk, the object is still read."""
    content = filler(200_000, 14)
    s3.put("key", content)
    s3.fault("GET", "key", CutBody(50_000))

    with storage.open("key") as file:
        assert file.read() == content


def test_an_object_that_was_replaced_while_it_was_read_is_an_error(
    s3: S3Front, storage: ObjectStorage
) -> None:
    """If an object is replaced by one of another length during a read, the read raises an error."""
    s3.put("key", filler(3 * MB, 5))
    with storage.open("key") as file:
        s3.put("key", filler(2 * MB, 6))
        file.seek(MB)

        with pytest.raises(OSError, match="replaced"):
            file.read()


def test_a_request_is_repeated_once(s3: S3Front, storage: ObjectStorage, tmp_path: Path) -> None:
    """If a request fails once, it is repeated, and the operation succeeds.

    The repetition succeeds even if the bucket has applied the first request and only the response
    was lost.
    """
    for method, act in (
        ("PUT", lambda: storage.write("key", b"content")),
        ("HEAD", lambda: storage.commit_file(_file(tmp_path, b"content"), "file")),
        ("PUT", lambda: storage.commit_file(_file(tmp_path, filler(100 * KB, 7)), "parts")),
        ("GET", lambda: list(storage.list("a"))),
    ):
        s3.fault(method, "", SlowDown(), times=1)
        act()
    s3.fault("PUT", "lost", LoseAnswer(), times=1)
    storage.write("lost", b"content")

    assert s3.get("lost") == b"content"
    assert s3.get("parts") == filler(100 * KB, 7)


def test_a_failed_commit_keeps_the_file(
    s3: S3Front, storage: ObjectStorage, tmp_path: Path
) -> None:
    """If a commit fails, the local file still exists, and the bucket has no object."""
    path = _file(tmp_path, filler(100 * KB, 8))
    end = s3.fault("PUT", "key", SlowDown())

    with pytest.raises(StorageBroken):
        storage.commit_file(path, "key")

    end()
    assert path.stat().st_size == 100 * KB
    assert s3.get("key") is None


def test_a_folder_is_listed_once(s3: S3Front, storage: ObjectStorage, tmp_path: Path) -> None:
    """After a folder was listed, later lists need no request, until a value in it is removed."""
    other = always_owned(s3, tmp_path)
    storage.write("a/b/one", b"1")
    assert list(other.list("a")) == ["b"]
    assert list(other.list("a/b")) == ["one"]
    s3.forget()

    storage.write("a/b/two", b"2")
    storage.write("a/c/three", b"3")

    assert list(other.list("a")) == list(storage.list("a")) == ["b", "c"]
    assert list(other.list("a/b")) == ["one", "two"]
    assert s3.counts() == {"PUT": 2}
    storage.delete("a/c/three")
    s3.forget()
    assert list(other.list("a")) == ["b"]
    assert s3.counts() == {"GET": 1}


def test_tags_are_listed_with_one_request(s3: S3Front, storage: ObjectStorage) -> None:
    """To list tags, one request is sent for the folder, and none for each tag.

    A removed tag is not in the list, even if its history remains.
    """
    name = Repository("team/app")
    repositories = Repositories(storage)
    for tag in ("v1", "v2", "v3"):
        s3.put(layout.tag_current(name, Tag(tag)), str(Digest.of(b"")).encode())
        s3.put(layout.tag_past(name, Tag(tag), Digest.of(b"")), str(Digest.of(b"")).encode())
    s3.forget()

    assert list(repositories.tags_after(name)) == ["v1", "v2", "v3"]
    assert s3.counts() == {"GET": 1}
    storage.delete(layout.tag_current(name, Tag("v2")))
    assert list(repositories.tags_after(name)) == ["v1", "v3"]


# ---- removals


def test_a_removal_without_an_answer_is_not_sent_again(s3: S3Front, tmp_path: Path) -> None:
    """If a removal gets no response, a second removal of the key is refused for 16 minutes.

    A second request could remove a value that was written in the meantime.
    """
    clock = Clock(1000.0)
    parts = parts_of("s3", parameters(s3, tmp_path), clock)
    storage = ObjectStorage(parts.client, parts.journal, _Held())
    storage.write("key", b"old")
    s3.fault("DELETE", "key", ApplyLater(threading.Event()), times=1)
    for expected in ("HTTP error", "got no response"):
        with pytest.raises(StorageBroken, match=expected):
            storage.delete("key")
    assert s3.count("DELETE") == 1
    assert storage.read("key") == b"old"

    clock.now += 17 * 60

    assert storage.delete("key")
    assert s3.get("key") is None


class _Held:
    def holds(self) -> bool:
        return True


def test_a_removal_that_was_refused_can_be_repeated(s3: S3Front, storage: ObjectStorage) -> None:
    """If S3 refuses a removal, it can be repeated immediately, because its outcome is known."""
    storage.write("key", b"content")
    s3.fault("DELETE", "key", Refused(Refusal(403, "AccessDenied")), times=1)

    with pytest.raises(StorageBroken, match="AccessDenied"):
        storage.delete("key")

    assert storage.delete("key")


# ---- the circuit breaker


def test_a_storage_that_does_not_answer_is_asked_once_a_second() -> None:
    """After two failures within two seconds, one request a second is permitted until one succeeds.

    Two failures with three seconds in between do not open the circuit.
    """
    timer = Clock(100.0)
    circuit = StorageCircuit(timer)
    circuit.failed()
    timer.now += 3.0
    circuit.failed()
    circuit.admit()
    timer.now += 1.0
    circuit.failed()
    for _ in range(3):
        with pytest.raises(StorageBroken):
            circuit.admit()
    timer.now += 1.0
    circuit.admit()
    with pytest.raises(StorageBroken):
        circuit.admit()
    timer.now += 1.0
    circuit.admit()
    circuit.worked()

    assert not circuit.is_open
    circuit.admit()


def test_while_the_circuit_is_open_no_request_is_sent(s3: S3Front, storage: ObjectStorage) -> None:
    """While the circuit is open, no request is sent; values in the journal can still be read."""
    storage.write("known", b"content")
    s3.fault("HEAD", "absent", SlowDown())
    with pytest.raises(StorageBroken):
        storage.stat("absent")
    s3.forget()

    with pytest.raises(StorageBroken, match="does not respond"):
        storage.read("other")

    assert s3.requests == []
    assert storage.read("known") == b"content"


@pytest.mark.parametrize("method", ["walk", "list"])
def test_an_empty_answer_closes_the_circuit_too(
    s3: S3Front, storage: ObjectStorage, method: str
) -> None:
    """An empty list from the bucket closes an open circuit, as any other response does."""
    circuit = storage._client._circuit
    circuit._next_probe = circuit._failed = 0.0

    assert list(getattr(storage, method)("absent")) == []

    assert not circuit.is_open
    assert s3.counts() == {"GET": 1}


def test_a_refused_request_is_neither_repeated_nor_opens_the_circuit(
    s3: S3Front, storage: ObjectStorage
) -> None:
    """If S3 refuses a request, it is not repeated and does not open the circuit.

    The policy of the bucket may forbid this one kind of request, while all others succeed.
    """
    s3.fault("PUT", "key", Refused(Refusal(403, "AccessDenied")))
    for _ in range(3):
        with pytest.raises(StorageBroken, match="AccessDenied"):
            storage.write("key", b"content")

    assert s3.count("PUT") == 3
    with pytest.raises(NotFound):
        storage.read("absent")


# ---- processes


_FORK = """
import os, sys
from pathlib import Path
from entrepot.datastore.drivers.objects.setup import parts_of
keys = {**eval(sys.argv[1]), "statedir": Path(sys.argv[2])}
storage = parts_of("s3", keys, lambda: 0.0).storage()
if os.fork() == 0:
    os._exit(0 if storage.read("key") == b"content" else 1)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_process_that_forks_before_its_first_request_has_working_children(
    s3: S3Front, tmp_path: Path
) -> None:
    """If a process forks before its first request to S3, its child can send requests.

    The first call of obstore starts threads, which a later fork would lose. The process of the
    tests has already called obstore, so the test runs a separate process that forks.
    """
    s3.put("key", b"content")
    given = {name: value for name, value in parameters(s3, tmp_path).items() if name != "statedir"}

    done = subprocess.run(
        [sys.executable, "-c", _FORK, repr(given), str(tmp_path)], timeout=60, check=False
    )

    assert done.returncode == 0
