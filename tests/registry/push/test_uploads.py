"""Blobs come in: at once, in chunks, as a stream, again after a break (end-4 to end-6, end-13)."""

from __future__ import annotations

import uuid

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.registry.push.pushing import (
    NAME,
    OCTETS,
    Pushing,
    code,
    is_served,
    pieces,
)

_CONTENT = filler(10_000, seed=1)
_DIGEST = Digest.of(_CONTENT)
_ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


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
    assert is_served(p, _CONTENT, algorithm)
    assert p.uploads() == []


@_ALGORITHMS
def test_one_post_makes_a_blob(p: Pushing, algorithm: str) -> None:
    """end-4b: the digest stands in the first request already."""
    digest = Digest.of(_CONTENT, algorithm)

    done = p.ask("POST", f"blobs/uploads/?digest={digest}", _CONTENT)

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert is_served(p, _CONTENT, algorithm)


@pytest.mark.parametrize("content", [b"", b"{}"], ids=["nothing", "the empty config"])
@_ALGORITHMS
def test_a_blob_may_be_as_small_as_nothing(p: Pushing, content: bytes, algorithm: str) -> None:
    """Both are well known, and pushed by every client of artifacts."""
    digest = p.blob(content, algorithm=algorithm)

    assert is_served(p, content, algorithm)
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
    assert is_served(p, _CONTENT, algorithm)


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
    assert is_served(p, _CONTENT, algorithm)


def test_streams_follow_one_another(p: Pushing) -> None:
    """Without Content-Range a body goes where the upload stands."""
    where = p.begin()
    for part in pieces(_CONTENT, 3000):
        assert p.stream("PATCH", where, [part]).status_code == 202

    assert p.stream("PUT", f"{where}?digest={_DIGEST}", []).status_code == 201
