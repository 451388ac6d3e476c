"""A client fetches blobs from an upstream: whole blobs, ranges, and bodies that break off."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Absent, Unavailable, Why
from entrepot.registry.upstream.protocol import RemoteBlob
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream


def test_a_whole_blob_is_requested_without_a_range(upstream: FakeUpstream) -> None:
    """The request for a whole blob has no Range header.

    The returned body begins at offset 0 and has the size of the blob.
    """
    digest = upstream.add_blob("app", b"content")

    with client_of(upstream).blob("app", digest) as blob:
        found = (blob.start, blob.size, b"".join(blob.chunks()))

    assert found == (0, 7, b"content")
    assert "range" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("start", "stop", "sent", "expected"),
    [
        (3, None, "bytes=3-", b"tent"),
        (0, 2, "bytes=0-1", b"co"),
        (2, 4, "bytes=2-3", b"nt"),
        (5, 99, "bytes=5-98", b"nt"),
    ],
)
def test_a_part_of_a_blob_is_requested_with_an_exact_range(
    upstream: FakeUpstream, start: int, stop: int | None, sent: str, expected: bytes
) -> None:
    """The request for a part of a blob has a Range header for exactly this part.

    The response states the start of the part and the size of the blob.
    """
    digest = upstream.add_blob("app", b"content")

    with client_of(upstream).blob("app", digest, start, stop) as blob:
        found = (blob.start, blob.size, b"".join(blob.chunks()))

    assert found == (start, 7, expected)
    assert upstream.requests[0].headers["range"] == sent


def test_a_body_starts_at_0_if_the_range_was_ignored(upstream: FakeUpstream) -> None:
    """If the upstream ignores the Range, the returned body begins at offset 0.

    The caller then skips the bytes before the offset that it requested.
    """
    digest = upstream.add_blob("app", b"content")
    upstream.misbehave(ignore_range=True)

    with client_of(upstream).blob("app", digest, 3) as blob:
        found = (blob.start, blob.size, b"".join(blob.chunks()))

    assert found == (0, 7, b"content")


@pytest.mark.parametrize(
    "knobs",
    [
        {"headers": {"Content-Range": "bytes 2-6/7"}},
        {"headers": {"Content-Range": "bytes 3-5/7"}},
        {"headers": {"Content-Range": None}},
        {"headers": {"Content-Range": "bytes x"}},
        {"status": 416},
    ],
    ids=str,
)
def test_a_part_other_than_the_requested_one_is_nonsense(
    upstream: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """If the upstream sends a range other than the requested range, the download fails at once.

    Otherwise only the digest of the whole blob would reveal the error.
    """
    digest = upstream.add_blob("app", b"content")
    upstream.misbehave(**knobs)

    with pytest.raises(Unavailable) as raised, client_of(upstream).blob("app", digest, 3):
        pass

    assert raised.value.why is Why.NONSENSE


def _drain(blob: RemoteBlob, into: bytearray) -> None:
    for chunk in blob.chunks():
        into += chunk


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_cut_blob_yields_the_received_bytes_and_then_fails(
    upstream: FakeUpstream, *, chunked: bool
) -> None:
    """If a body is cut off, the client yields the received bytes and then raises Unavailable."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", cut=300, chunked=chunked)
    received = bytearray()

    with client_of(upstream).blob("app", digest) as blob, pytest.raises(Unavailable) as raised:
        _drain(blob, received)

    assert bytes(received) == b"x" * 300
    assert raised.value.why is Why.REFUSED


def test_a_blob_of_unknown_length_has_no_size(upstream: FakeUpstream) -> None:
    """If the upstream sends a blob in chunks, `size` is None and the last chunk ends the blob."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", chunked=True)

    with client_of(upstream).blob("app", digest) as blob:
        found = (blob.size, b"".join(blob.chunks()))

    assert found == (None, b"x" * 1000)


def test_a_blob_that_stalls_is_a_timeout(upstream: FakeUpstream) -> None:
    """If a body stalls for longer than the read timeout, the client raises Unavailable."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", hold=threading.Event(), hold_after=100)
    client = client_of(upstream, read_timeout=0.5)

    with client.blob("app", digest) as blob, pytest.raises(Unavailable) as raised:
        list(blob.chunks())

    assert raised.value.why is Why.TIMEOUT


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_first_bytes_do_not_wait_for_more(upstream: FakeUpstream, *, chunked: bool) -> None:
    """If the upstream sends few bytes and then pauses, the client yields these bytes at once."""
    gate = threading.Event()
    digest = upstream.add_blob("app", b"x" * 1_000_000)
    upstream.misbehave("/blobs/", hold=gate, hold_after=100, chunked=chunked)

    with client_of(upstream).blob("app", digest) as blob:
        chunks = blob.chunks()
        first = next(chunks)
        sent = upstream.bytes_sent
        gate.set()
        rest = b"".join(chunks)

    assert (len(first), sent, len(rest)) == (100, 100, 999_900)


def test_no_piece_is_larger_than_256_kib(upstream: FakeUpstream) -> None:
    """The client yields pieces of at most 256 KiB, so the memory of a reader is bounded."""
    digest = upstream.add_blob("app", b"x" * 3_000_000)

    with client_of(upstream).blob("app", digest) as blob:
        sizes = [len(chunk) for chunk in blob.chunks()]

    assert max(sizes) <= 256 * 1024
    assert sum(sizes) == 3_000_000


def test_blob_size_is_requested_with_head(upstream: FakeUpstream) -> None:
    """To learn the size of a blob, the client sends a HEAD and downloads no part of the blob."""
    digest = upstream.add_blob("app", b"content")

    assert client_of(upstream).blob_size("app", digest) == 7
    assert [each.method for each in upstream.requests] == ["HEAD"]
    with pytest.raises(Absent):
        client_of(upstream).blob_size("app", Digest.of(b"other"))
