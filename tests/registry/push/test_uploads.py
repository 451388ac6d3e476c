"""Blobs come in: at once, in chunks, as a stream, again after a break (end-4 to end-6, end-13)."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from datastore.index import Kind
from datastore.memory import MemoryIndex
from datastore.refs import Digest, Repository
from tests.images import filler
from tests.registry.push.pushing import (
    NAME,
    OCTETS,
    Holding,
    Pushing,
    Stream,
    code,
    pieces,
    pushing,
)

_CONTENT = filler(10_000, seed=1)
_DIGEST = Digest.of(_CONTENT)
_BLOB = f"/v2/{NAME}/blobs/{_DIGEST}"
_ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def _is_served(p: Pushing, content: bytes, algorithm: str = "sha256") -> bool:
    got = p.ask("GET", f"blobs/{Digest.of(content, algorithm)}")
    return got.status_code == 200 and got.content == content


def _span(start: int, chunk: bytes) -> str:
    return f"{start}-{start + len(chunk) - 1}"


# ---- at once


def test_an_upload_begins_with_a_place_to_go_on(p: Pushing) -> None:
    """end-4a: 202, a relative Location with a UUID in it, and nothing received."""
    begun = p.ask("POST", "blobs/uploads/")

    assert begun.status_code == 202
    assert begun.headers["range"] == "0-0"
    number = begun.headers["docker-upload-uuid"]
    assert begun.headers["location"] == f"/v2/{NAME}/blobs/uploads/{number}"
    assert str(uuid.UUID(number)) == number


@_ALGORITHMS
def test_post_and_put_make_a_blob(p: Pushing, algorithm: str) -> None:
    """end-6: 201, where it can be pulled, and its digest, in whichever algorithm."""
    digest = Digest.of(_CONTENT, algorithm)

    done = p.send("PUT", f"{p.begin()}?digest={digest}", _CONTENT, Content_Type=OCTETS)

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert done.headers["docker-content-digest"] == str(digest)
    assert _is_served(p, _CONTENT, algorithm)
    assert p.uploads() == []


@_ALGORITHMS
def test_one_post_makes_a_blob(p: Pushing, algorithm: str) -> None:
    """end-4b: the digest stands in the first request already."""
    digest = Digest.of(_CONTENT, algorithm)

    done = p.ask("POST", f"blobs/uploads/?digest={digest}", _CONTENT)

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert _is_served(p, _CONTENT, algorithm)


@pytest.mark.parametrize("content", [b"", b"{}"], ids=["nothing", "the empty config"])
@_ALGORITHMS
def test_a_blob_may_be_as_small_as_nothing(p: Pushing, content: bytes, algorithm: str) -> None:
    """Both are well known, and pushed by every client of artifacts."""
    digest = p.blob(content, algorithm=algorithm)

    assert _is_served(p, content, algorithm)
    assert p.ask("HEAD", f"blobs/{digest}").headers["content-length"] == str(len(content))


def test_a_blob_that_was_pushed_is_read_in_ranges(p: Pushing) -> None:
    """end-2, as every blob."""
    p.blob(_CONTENT)

    got = p.ask("GET", f"blobs/{_DIGEST}", Range="bytes=500-1499")

    assert got.status_code == 206
    assert got.content == _CONTENT[500:1500]
    assert got.headers["content-range"] == f"bytes 500-1499/{len(_CONTENT)}"


# ---- in chunks


@_ALGORITHMS
@pytest.mark.parametrize("with_put", [True, False], ids=["the last in PUT", "all in PATCH"])
def test_chunks_make_a_blob(p: Pushing, algorithm: str, *, with_put: bool) -> None:
    """end-5: each is answered 202 with how far it is and where the next one goes."""
    digest = Digest.of(_CONTENT, algorithm)
    where, start = p.begin(f"?digest-algorithm={algorithm}"), 0
    chunks = list(pieces(_CONTENT, 4000))
    last = chunks.pop() if with_put else b""
    for chunk in chunks:
        taken = p.send("PATCH", where, chunk, Content_Range=_span(start, chunk))
        start += len(chunk)
        assert taken.status_code == 202
        assert taken.headers["range"] == f"0-{start - 1}"
        where = taken.headers["location"]

    headers = {"Content_Range": _span(start, last)} if last else {}
    done = p.send("PUT", f"{where}?digest={digest}", last, **headers)

    assert done.status_code == 201
    assert _is_served(p, _CONTENT, algorithm)


@pytest.mark.parametrize("start", [0, 3999, 4001, 9000])
def test_a_chunk_out_of_order_is_416(p: Pushing, start: int) -> None:
    """Nothing of it is taken; the answer says where the upload stands, and so does GET."""
    where = p.begin()
    p.send("PATCH", where, _CONTENT[:4000], Content_Range="0-3999")
    chunk = _CONTENT[start : start + 1000]

    refused = p.send("PATCH", where, chunk, Content_Range=f"{start}-{start + 999}")

    assert refused.status_code == 416
    assert code(refused) == "BLOB_UPLOAD_INVALID"
    status = p.send("GET", where)
    assert status.status_code == 204
    for answer in (refused, status):
        assert answer.headers["range"] == "0-3999"
        assert answer.headers["location"] == where


def test_the_last_chunk_out_of_order_is_416_and_ends_nothing(p: Pushing) -> None:
    """The upload goes on from where it stands."""
    where = p.begin()
    p.send("PATCH", where, _CONTENT[:4000], Content_Range="0-3999")

    refused = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT[5000:], Content_Range="5000-9999")
    done = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT[4000:], Content_Range="4000-9999")

    assert (refused.status_code, done.status_code) == (416, 201)


def test_a_first_chunk_that_is_not_the_first_is_416(p: Pushing) -> None:
    """The first begins at 0, and GET then says 0-0."""
    where = p.begin()

    refused = p.send("PATCH", where, _CONTENT[1000:2000], Content_Range="1000-1999")

    assert refused.status_code == 416
    assert p.send("GET", where).headers["range"] == "0-0"


def test_a_chunk_may_be_repeated_only_in_its_place(p: Pushing) -> None:
    """A client that did not see the answer sends it again, and is told how far it is."""
    where = p.begin()
    first = {"Content_Range": "0-3999"}
    p.send("PATCH", where, _CONTENT[:4000], **first)

    assert p.send("PATCH", where, _CONTENT[:4000], **first).status_code == 416


def test_a_chunk_that_is_not_as_long_as_it_says_is_refused(p: Pushing) -> None:
    """400 SIZE_INVALID, and nothing of it is taken."""
    where = p.begin()

    refused = p.send("PATCH", where, _CONTENT[:100], Content_Range="0-199")

    assert refused.status_code == 400
    assert code(refused) == "SIZE_INVALID"
    assert p.send("GET", where).headers["range"] == "0-0"


def test_a_range_that_cannot_be_read_is_400(p: Pushing) -> None:
    """And no place."""
    assert p.send("PATCH", p.begin(), b"x", Content_Range="first").status_code == 400


# ---- as a stream


@_ALGORITHMS
def test_a_stream_makes_a_blob(p: Pushing, algorithm: str) -> None:
    """Docker and podman send a layer in one PATCH whose length they do not know."""
    digest = Digest.of(_CONTENT, algorithm)
    where = p.begin()

    taken = p.stream("PATCH", where, pieces(_CONTENT, 999))
    done = p.send("PUT", f"{taken.headers['location']}?digest={digest}", b"")

    assert taken.status_code == 202
    assert taken.headers["range"] == "0-9999"
    assert done.status_code == 201
    assert _is_served(p, _CONTENT, algorithm)


def test_streams_follow_one_another(p: Pushing) -> None:
    """Without Content-Range a body goes where the upload stands."""
    where = p.begin()
    for part in pieces(_CONTENT, 3000):
        assert p.stream("PATCH", where, [part]).status_code == 202

    assert p.stream("PUT", f"{where}?digest={_DIGEST}", []).status_code == 201


# ---- broken off


def test_what_came_in_before_a_break_stays(p: Pushing) -> None:
    """The client asks how far it is and goes on from there, at any worker."""
    where = p.begin()
    extras = {"wsgi.input": Stream([_CONTENT[:3000]]), "CONTENT_LENGTH": "10000"}
    broken = p.client.simulate_patch(where, body=b"-", extras=extras)
    assert broken.status_code == 400
    assert p.send("GET", where).headers["range"] == "0-2999"

    other = pushing(p.root, index=p.index)
    taken = other.send("PATCH", where, _CONTENT[3000:], Content_Range="3000-9999")
    done = p.send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert (taken.status_code, done.status_code) == (202, 201)
    assert _is_served(other, _CONTENT)


def test_a_server_that_loses_its_client_is_a_break_too(p: Pushing) -> None:
    """Each has an exception of its own for that."""
    where = p.begin()

    broken = p.stream("PATCH", where, [_CONTENT[:300], ConnectionResetError("gone")])

    assert broken.status_code == 400
    assert code(broken) == "SIZE_INVALID"
    assert len(p.uploads()) > 0


def test_nothing_stays_of_a_post_that_breaks(p: Pushing) -> None:
    """Its client has no place to go on."""
    extras = {"wsgi.input": Stream([_CONTENT[:3000]]), "CONTENT_LENGTH": "10000"}

    broken = p.client.simulate_post(
        f"/v2/{NAME}/blobs/uploads/", query_string=f"digest={_DIGEST}", body=b"-", extras=extras
    )

    assert broken.status_code == 400
    assert p.uploads() == []
    assert p.index.held() == 0


def test_a_worker_that_did_not_see_the_bytes_hashes_them_itself(p: Pushing) -> None:
    """A hash is not in a file: what was left beside the upload may be of another time."""
    where = p.begin()
    p.send("PATCH", where, _CONTENT)
    (word,) = [path for path in p.uploads() if path.suffix == ".digest"]
    word.write_text(f"another-boot 10000 {Digest.of(b'something else')}")

    done = pushing(p.root, index=p.index).send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert done.status_code == 201
    assert _is_served(p, _CONTENT)


def test_what_one_worker_hashed_another_need_not_read(p: Pushing) -> None:
    """The PUT comes after podman's PATCH, to whichever worker is free: it costs no look.

    Shown by bytes that are other ones by then, which nobody notices.
    """
    where = p.begin()
    p.send("PATCH", where, _CONTENT)
    (data,) = [path for path in p.uploads() if path.suffix != ".digest"]
    data.write_bytes(bytes(len(_CONTENT)))

    done = pushing(p.root, index=p.index).send("PUT", f"{where}?digest={_DIGEST}", b"")

    assert done.status_code == 201
    assert p.content(_DIGEST) == bytes(len(_CONTENT))


# ---- wrong digests


@pytest.mark.parametrize("way", ["post", "put", "chunks", "stream"])
@_ALGORITHMS
def test_what_is_not_what_its_digest_says_is_refused(p: Pushing, way: str, algorithm: str) -> None:
    """400 DIGEST_INVALID, and nothing of it stays."""
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
    assert p.index.held() == 0
    assert p.ask("HEAD", f"blobs/{digest}").status_code == 404


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "nonsense", "sha256:"])
def test_what_is_no_digest_is_400(p: Pushing, digest: str) -> None:
    """The upload stays: its client may still end it well."""
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


# ---- no such upload


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "number", [str(uuid.UUID(int=1)), "x", "..", f"{uuid.UUID(int=1)}.digest", "0" * 300]
)
def test_an_upload_that_is_not_there_is_404(p: Pushing, method: str, number: str) -> None:
    """Whatever it is called."""
    where = f"blobs/uploads/{number}?digest={_DIGEST}"

    refused = p.ask(method, where, b"x" if method.startswith("P") else None)

    assert refused.status_code == 404
    assert method == "HEAD" or code(refused) == "BLOB_UPLOAD_UNKNOWN"
    assert p.uploads() == []


def test_an_upload_belongs_to_its_repository(p: Pushing) -> None:
    """Its number opens it nowhere else: rights are checked by the name."""
    where = p.begin().replace(NAME, "team/other")

    refused = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT)

    assert refused.status_code == 404
    assert len(p.uploads()) == 1


def test_an_upload_that_has_ended_is_not_there(p: Pushing) -> None:
    """Not by any verb, and no file comes back."""
    where = p.begin()
    p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT)

    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert p.send(method, f"{where}?digest={_DIGEST}", b"").status_code == 404
    assert p.uploads() == []


def test_an_upload_is_given_up(p: Pushing) -> None:
    """end-14: 204, with its bytes and its room."""
    where = p.begin()
    p.send("PATCH", where, _CONTENT)

    assert p.send("DELETE", where).status_code == 204

    assert p.uploads() == []
    assert p.index.held() == 0
    assert p.send("DELETE", where).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_uploads_are_not_listed(p: Pushing, method: str) -> None:
    """One is begun there, that is all."""
    refused = p.ask(method, "blobs/uploads/")

    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"


# ---- two at once


def test_two_requests_on_one_upload_do_not_mix(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second gets 416 with how far it is, as any chunk out of order; nothing is lost."""
    monkeypatch.setattr("registry.push.sessions._PATIENCE_S", 0.05)
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


def test_one_blob_is_uploaded_by_eight_at_once(tmp_path: Path) -> None:
    """Each is answered 201, one copy is kept, and counted once."""
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
    assert index.reservations() == []
    assert workers[0].uploads() == []


# ---- what is kept of it


def test_a_pushed_blob_is_recorded_and_held(tmp_path: Path) -> None:
    """It counts against the cap, and no eviction takes it before it is linked."""
    index = Holding()
    p = pushing(tmp_path, index=index)

    digest = p.blob(_CONTENT)

    entry = index.entry(digest)
    assert entry is not None
    assert (entry.size, entry.kind) == (len(_CONTENT), Kind.BLOB)
    assert index.held_once == {digest}
    assert index.let_go()
    assert p.repositories.origin(Repository(NAME)) is None


def test_an_upload_makes_no_repository(p: Pushing) -> None:
    """Nothing was pushed as long as it has not ended."""
    p.begin()

    assert p.ask("GET", "tags/list").status_code == 404
    assert p.send("GET", "/v2/_catalog").json == {"repositories": []}


def test_a_blob_that_is_here_stays_what_it_was(p: Pushing) -> None:
    """Pushed as a blob, a manifest's row keeps what it names: the order of eviction needs it."""
    part = Digest.of(b"part")
    p.index.record(_DIGEST, len(_CONTENT), Kind.MANIFEST, 1.0, names=[part])
    (p.root / "docker").mkdir()
    p.storage.write(
        f"docker/registry/v2/blobs/sha256/{_DIGEST.hex[:2]}/{_DIGEST.hex}/data", _CONTENT
    )

    p.blob(_CONTENT)

    entry = p.index.entry(_DIGEST)
    assert entry is not None
    assert entry.kind is Kind.MANIFEST
    assert entry.used > 1.0
    assert p.index.named(_DIGEST) == [part]


def test_the_log_is_told_what_was_pushed(p: Pushing) -> None:
    """A push is a use: HAProxy logs kind and digest, and the logger stamps them."""
    done = p.send("PUT", f"{p.begin()}?digest={_DIGEST}", _CONTENT)

    assert done.headers["x-entrepot-kind"] == "blob"
    assert done.headers["x-entrepot-repository"] == NAME
    assert done.headers["docker-content-digest"] == str(_DIGEST)
