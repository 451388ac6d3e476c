"""Uploads are completed, cancelled, interrupted, or rejected for a wrong digest.

Other tests in this file send malformed requests, or several requests at the same time.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from entrepot.datastore import blobs, layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Digest
from entrepot.datastore.unverified import UnverifiedMarks
from tests.images import filler
from tests.registry.push.pushing import (
    NAME,
    Pushing,
    Stream,
    code,
    is_served,
    pieces,
    pushing,
)

_CONTENT = filler(10_000, seed=1)
_DIGEST = Digest.of(_CONTENT)
_ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


# ---- interrupted uploads


def test_received_bytes_survive_an_interruption(p: Pushing) -> None:
    """If the connection of an upload breaks, the worker keeps the received bytes.

    The client can get the number of received bytes from any worker and continue at that offset.
    """
    where = p.begin()
    extras = {"wsgi.input": Stream([_CONTENT[:3000]]), "CONTENT_LENGTH": "10000"}
    broken = p.client.simulate_patch(where, body=b"-", extras=extras)
    assert broken.status_code == 400
    assert p.send("GET", where).headers["range"] == "0-2999"

    other = pushing(p.root, index=p.index)
    taken = other.send("PATCH", where, _CONTENT[3000:], Content_Range="3000-9999")
    done = p.send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert (taken.status_code, done.status_code) == (202, 201)
    assert is_served(other, _CONTENT)


def test_an_exception_of_the_server_counts_as_an_interruption(p: Pushing) -> None:
    """An error that the WSGI server raises during the read of the body interrupts the upload.

    Each WSGI server raises a different exception when a client disconnects.
    """
    where = p.begin()

    broken = p.stream("PATCH", where, [_CONTENT[:300], ConnectionResetError("gone")])

    assert broken.status_code == 400
    assert code(broken) == "SIZE_INVALID"
    assert len(p.uploads()) > 0


def test_an_interrupted_post_leaves_no_upload(p: Pushing) -> None:
    """If a POST with the whole blob is interrupted, the worker deletes the upload.

    The client has no URL at which it could continue.
    """
    extras = {"wsgi.input": Stream([_CONTENT[:3000]]), "CONTENT_LENGTH": "10000"}

    broken = p.client.simulate_post(
        f"/v2/{NAME}/blobs/uploads/", query_string=f"digest={_DIGEST}", body=b"-", extras=extras
    )

    assert broken.status_code == 400
    assert p.uploads() == []
    assert p.index.reservations.used_bytes() == 0


def test_a_worker_without_the_hash_reads_the_upload(p: Pushing) -> None:
    """A worker without a valid running hash of an upload reads the whole file before the commit.

    A saved running hash is invalid after a reboot of the machine, or if it covers only the first
    part of the file.
    """
    where = p.begin()
    p.send("PATCH", where, _CONTENT)
    (word,) = [path for path in p.uploads() if path.suffix == ".digest"]
    word.write_text(f"another-boot 10000 {Digest.of(b'something else')}")

    done = pushing(p.root, index=p.index).send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert done.status_code == 201
    assert is_served(p, _CONTENT)


def test_a_saved_hash_is_used_by_another_worker(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker continues with the running hash that another worker saved, without reading the file.

    The test changes the bytes of the file; the commit does not notice this without a read. The
    commit marks the blob as unverified, so that the cleaner verifies it later.
    """
    monkeypatch.setattr(blobs, "REREAD", 0)
    where = p.begin()
    p.send("PATCH", where, _CONTENT)
    (data,) = [path for path in p.uploads() if path.suffix != ".digest"]
    data.write_bytes(bytes(len(_CONTENT)))

    done = pushing(p.root, index=p.index).send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert done.status_code == 201
    assert p.content(_DIGEST) == bytes(len(_CONTENT))
    marked = UnverifiedMarks(p.root / "entrepot" / layout.UNVERIFIED).all()
    assert [digest for digest, _ in marked] == [_DIGEST]


def test_a_truncated_upload_is_refused(p: Pushing) -> None:
    """If the bytes in an upload's file have changed, the last request of the upload gets 503.

    The worker notices the change when it reads the file again before the commit. It then deletes
    the upload.
    """
    where = p.begin()
    p.send("PATCH", where, _CONTENT)
    (data,) = [path for path in p.uploads() if path.suffix != ".digest"]
    data.write_bytes(bytes(len(_CONTENT)))

    done = p.send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert (done.status_code, done.headers["Retry-After"]) == (503, "5")
    assert not is_served(p, _CONTENT)
    assert p.uploads() == []


# ---- wrong digests


@pytest.mark.parametrize("way", ["post", "put", "chunks", "stream"])
@_ALGORITHMS
def test_a_wrong_digest_is_400(p: Pushing, way: str, algorithm: str) -> None:
    """If the bytes of an upload do not have the stated digest, the client gets DIGEST_INVALID.

    The status is 400, and the upload is deleted.
    """
    digest = Digest.of(b"something else", algorithm)
    if way == "post":
        refused = p.ask("POST", f"blobs/uploads/?digest={digest}", _CONTENT)
    else:
        where = p.begin()
        if way == "chunks":
            p.send("PATCH", where, _CONTENT[:4000], Content_Range="0-3999")
        if way == "stream":
            p.stream("PATCH", where, pieces(_CONTENT, 999))
        last = b"" if way == "stream" else _CONTENT[4000:]
        refused = p.send("PUT", f"{where}?digest={digest}", last)
        assert p.send("GET", where).status_code == 404

    assert refused.status_code == 400
    assert code(refused) == "DIGEST_INVALID"
    assert p.uploads() == []
    assert p.index.reservations.used_bytes() == 0
    assert p.ask("HEAD", f"blobs/{digest}").status_code == 404


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "nonsense", "sha256:"])
def test_a_malformed_digest_is_400(p: Pushing, digest: str) -> None:
    """A request with a malformed digest gets 400.

    The upload is kept, so that the client can finish it.
    """
    where = p.begin()

    for refused in (
        p.send("PUT", f"{where}?digest={digest}", b"x"),
        p.ask("POST", f"blobs/uploads/?mount={digest or 'none'}&from=team/other"),
        p.ask("POST", f"blobs/uploads/?digest={digest or 'none'}", b"x"),
        p.ask("POST", f"blobs/uploads/?digest-algorithm={digest or 'md5'}"),
    ):
        assert refused.status_code == 400
        assert code(refused) == "DIGEST_INVALID"
    assert p.send("GET", where).status_code == 204


# ---- tests of uploads that do not exist


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "number", [str(uuid.UUID(int=1)), "x", "..", f"{uuid.UUID(int=1)}.digest", "0" * 300]
)
def test_an_unknown_upload_is_404(p: Pushing, method: str, number: str) -> None:
    """A request with the ID of an upload that does not exist gets 404, whatever the ID contains."""
    where = f"blobs/uploads/{number}?digest={_DIGEST}"

    refused = p.ask(method, where, b"x" if method.startswith("P") else None)

    assert refused.status_code == 404
    assert method == "HEAD" or code(refused) == "BLOB_UPLOAD_UNKNOWN"
    assert p.uploads() == []


def test_an_upload_id_is_valid_in_its_repository_only(p: Pushing) -> None:
    """The ID of an upload is valid only in the URL of the repository in which the upload began.

    Otherwise a client could bypass the permissions, which are checked for the repository in the
    URL.
    """
    where = p.begin().replace(NAME, "team/other")

    refused = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT)

    assert refused.status_code == 404
    assert len(p.uploads()) == 1


def test_a_finished_upload_is_404(p: Pushing) -> None:
    """After an upload has finished, every request for it gets 404 and creates no file."""
    where = p.begin()
    p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT)

    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert p.send(method, f"{where}?digest={_DIGEST}", b"").status_code == 404
    assert p.uploads() == []


def test_an_upload_can_be_cancelled(p: Pushing) -> None:
    """DELETE of an upload (end-14) gets 204 and removes its bytes and its reservation."""
    where = p.begin()
    p.send("PATCH", where, _CONTENT)

    assert p.send("DELETE", where).status_code == 204

    assert p.uploads() == []
    assert p.index.reservations.used_bytes() == 0
    assert p.send("DELETE", where).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_get_of_all_uploads_is_405(p: Pushing, method: str) -> None:
    """At `/blobs/uploads/` a client can only begin an upload with POST; other methods get 405."""
    refused = p.ask(method, "blobs/uploads/")

    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"


# ---- tests with two requests at the same time


def test_two_requests_on_one_upload_do_not_mix(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an upload has a request in progress, a second request for it gets 416.

    The header Range of the 416 states the received bytes.
    """
    monkeypatch.setattr("entrepot.registry.push.upload_sessions._LOCK_WAIT_S", 0.05)
    where = p.begin()
    is_writing, may_end = threading.Event(), threading.Event()

    class Slow(Stream):
        def read(self, size: int = -1, /) -> bytes:
            is_writing.set()
            may_end.wait(10)
            return super().read(size)

    def first() -> None:
        extras = {"wsgi.input": Slow([_CONTENT]), "CONTENT_LENGTH": "10000"}
        p.client.simulate_patch(where, body=b"-", extras=extras)

    thread = threading.Thread(target=first)
    thread.start()
    assert is_writing.wait(10)
    other = pushing(p.root, index=p.index)
    late = [
        other.send("PATCH", where, b"other bytes", Content_Range="0-10"),
        other.send("PUT", f"{where}?digest={_DIGEST}", b""),
        other.send("DELETE", where),
    ]
    may_end.set()
    thread.join()

    assert [each.status_code for each in late] == [416, 416, 416]
    assert late[0].headers["range"] == "0-0"
    assert p.send("PUT", f"{where}?digest={_DIGEST}", b"").status_code == 201


def test_eight_simultaneous_uploads_of_one_blob_succeed(tmp_path: Path) -> None:
    """If eight clients upload the same blob at the same time, each gets 201.

    The blob is stored and counted once.
    """
    index = MemoryIndex()
    workers = [pushing(tmp_path, index=index) for _ in range(2)]
    answers: list[int] = []

    def push(p: Pushing, name: str) -> None:
        where = p.begin(name=name)
        answers.append(p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT).status_code)

    threads = [
        threading.Thread(target=push, args=(workers[number % 2], f"team/app{number % 4}"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [201] * 8
    assert index.count() == 1
    assert index.reservations.all() == []
    assert workers[0].uploads() == []
