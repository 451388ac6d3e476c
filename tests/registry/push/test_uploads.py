"""A blob is uploaded in one request, in chunks, or as a stream (end-4 to end-6, end-13)."""

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


# ---- tests of uploads in one or two requests


def test_a_post_returns_the_location_of_the_upload(p: Pushing) -> None:
    """POST begins an upload; the 202 has a relative Location and a Range of 0-0 (end-4a).

    The Location contains a UUID.
    """
    begun = p.ask("POST", "blobs/uploads/")

    assert begun.status_code == 202
    assert begun.headers["range"] == "0-0"
    number = begun.headers["docker-upload-uuid"]
    assert begun.headers["location"] == f"/v2/{NAME}/blobs/uploads/{number}"
    assert str(uuid.UUID(number)) == number


@_ALGORITHMS
def test_post_and_put_store_a_blob(p: Pushing, algorithm: str) -> None:
    """POST and PUT store a blob; the 201 has its digest and the Location for pulls (end-6)."""
    digest = Digest.of(_CONTENT, algorithm)

    done = p.send("PUT", f"{p.begin()}?digest={digest}", _CONTENT, Content_Type=OCTETS)

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert done.headers["docker-content-digest"] == str(digest)
    assert is_served(p, _CONTENT, algorithm)
    assert p.uploads() == []


@_ALGORITHMS
def test_a_single_post_stores_a_blob(p: Pushing, algorithm: str) -> None:
    """A single POST with the digest in its query stores a blob (end-4b)."""
    digest = Digest.of(_CONTENT, algorithm)

    done = p.ask("POST", f"blobs/uploads/?digest={digest}", _CONTENT)

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert is_served(p, _CONTENT, algorithm)


@pytest.mark.parametrize("content", [b"", b"{}"], ids=["nothing", "the empty config"])
@_ALGORITHMS
def test_an_empty_blob_and_an_empty_object_can_be_pushed(
    p: Pushing, content: bytes, algorithm: str
) -> None:
    """A client can push a blob of zero bytes and the empty object `{}`.

    Programs that store artifacts in a registry push both.
    """
    digest = p.blob(content, algorithm=algorithm)

    assert is_served(p, content, algorithm)
    assert p.ask("HEAD", f"blobs/{digest}").headers["content-length"] == str(len(content))


def test_a_pushed_blob_can_be_read_in_ranges(p: Pushing) -> None:
    """A client can pull a range of a pushed blob (end-2)."""
    p.blob(_CONTENT)

    got = p.ask("GET", f"blobs/{_DIGEST}", Range="bytes=500-1499")

    assert got.status_code == 206
    assert got.content == _CONTENT[500:1500]
    assert got.headers["content-range"] == f"bytes 500-1499/{len(_CONTENT)}"


# ---- tests of uploads in chunks


@_ALGORITHMS
@pytest.mark.parametrize("with_put", [True, False], ids=["the last in PUT", "all in PATCH"])
def test_chunks_store_a_blob(p: Pushing, algorithm: str, *, with_put: bool) -> None:
    """Each chunk gets 202 with the received range and the URL for the next chunk (end-5)."""
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
    """A chunk that does not begin where the received bytes end gets 416 and is not stored.

    The 416 and a GET of the upload state the received range.
    """
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


def test_a_last_chunk_out_of_order_is_416_and_keeps_the_upload(p: Pushing) -> None:
    """If the last chunk begins at a wrong offset, it gets 416 and the client can resend it.

    The upload is not deleted.
    """
    where = p.begin()
    p.send("PATCH", where, _CONTENT[:4000], Content_Range="0-3999")

    refused = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT[5000:], Content_Range="5000-9999")
    done = p.send("PUT", f"{where}?digest={_DIGEST}", _CONTENT[4000:], Content_Range="4000-9999")

    assert (refused.status_code, done.status_code) == (416, 201)


def test_a_first_chunk_must_start_at_0(p: Pushing) -> None:
    """A first chunk that does not begin at 0 gets 416, and a GET of the upload reports 0-0."""
    where = p.begin()

    refused = p.send("PATCH", where, _CONTENT[1000:2000], Content_Range="1000-1999")

    assert refused.status_code == 416
    assert p.send("GET", where).headers["range"] == "0-0"


def test_a_repeated_chunk_is_416_with_the_offset(p: Pushing) -> None:
    """A chunk that a client sends a second time gets 416.

    If the client has missed the first response, it can request the received range with a GET.
    """
    where = p.begin()
    first = {"Content_Range": "0-3999"}
    p.send("PATCH", where, _CONTENT[:4000], **first)

    assert p.send("PATCH", where, _CONTENT[:4000], **first).status_code == 416


def test_a_chunk_of_a_wrong_length_is_400(p: Pushing) -> None:
    """A chunk that is shorter than its Content-Range gets 400; none of its bytes are stored."""
    where = p.begin()

    refused = p.send("PATCH", where, _CONTENT[:100], Content_Range="0-199")

    assert refused.status_code == 400
    assert code(refused) == "SIZE_INVALID"
    assert p.send("GET", where).headers["range"] == "0-0"


def test_an_invalid_content_range_is_400(p: Pushing) -> None:
    """A chunk with a malformed Content-Range gets 400."""
    assert p.send("PATCH", p.begin(), b"x", Content_Range="first").status_code == 400


# ---- tests of uploads as a stream


@_ALGORITHMS
def test_a_stream_stores_a_blob(p: Pushing, algorithm: str) -> None:
    """Docker and podman push a blob in one PATCH of unknown length and then send an empty PUT."""
    digest = Digest.of(_CONTENT, algorithm)
    where = p.begin()

    taken = p.stream("PATCH", where, pieces(_CONTENT, 999))
    done = p.send("PUT", f"{taken.headers['location']}?digest={digest}", b"")

    assert taken.status_code == 202
    assert taken.headers["range"] == "0-9999"
    assert done.status_code == 201
    assert is_served(p, _CONTENT, algorithm)


def test_streams_are_appended(p: Pushing) -> None:
    """A PATCH without Content-Range appends its body to the received bytes."""
    where = p.begin()
    for part in pieces(_CONTENT, 3000):
        assert p.stream("PATCH", where, [part]).status_code == 202

    assert p.stream("PUT", f"{where}?digest={_DIGEST}", []).status_code == 201
