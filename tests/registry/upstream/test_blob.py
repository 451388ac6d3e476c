"""A blob as it comes in: ranges, cuts, and bytes passed on at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Absent, Unavailable, Why
from entrepot.registry.upstream.protocol import RemoteBlob
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream


def test_a_whole_blob_asks_for_no_range(upstream: FakeUpstream) -> None:
    """It comes from 0, with its size."""
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
def test_a_part_of_a_blob(
    upstream: FakeUpstream, start: int, stop: int | None, sent: str, expected: bytes
) -> None:
    """One exact Range; the answer says where it begins and how long the whole is."""
    digest = upstream.add_blob("app", b"content")

    with client_of(upstream).blob("app", digest, start, stop) as blob:
        found = (blob.start, blob.size, b"".join(blob.chunks()))

    assert found == (start, 7, expected)
    assert upstream.requests[0].headers["range"] == sent


def test_a_range_that_is_ignored_begins_at_0(upstream: FakeUpstream) -> None:
    """The caller throws away what it has."""
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
def test_another_part_than_was_asked_for_is_nonsense(
    upstream: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """Wrong bytes at the right place would only be found at the very end."""
    digest = upstream.add_blob("app", b"content")
    upstream.misbehave(**knobs)

    with pytest.raises(Unavailable) as raised, client_of(upstream).blob("app", digest, 3):
        pass

    assert raised.value.why is Why.NONSENSE


def _drain(blob: RemoteBlob, into: bytearray) -> None:
    for chunk in blob.chunks():
        into += chunk


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_blob_that_is_cut_gives_what_came_and_then_fails(
    upstream: FakeUpstream, *, chunked: bool
) -> None:
    """No byte that came is lost, and nobody takes it for the whole."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", cut=300, chunked=chunked)
    came = bytearray()

    with client_of(upstream).blob("app", digest) as blob, pytest.raises(Unavailable) as raised:
        _drain(blob, came)

    assert bytes(came) == b"x" * 300
    assert raised.value.why is Why.REFUSED


def test_a_blob_of_unknown_length_has_no_size(upstream: FakeUpstream) -> None:
    """It comes in chunks, and its end is its end."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", chunked=True)

    with client_of(upstream).blob("app", digest) as blob:
        found = (blob.size, b"".join(blob.chunks()))

    assert found == (None, b"x" * 1000)


def test_a_blob_that_stalls_is_a_time_out(upstream: FakeUpstream) -> None:
    """Each read has the read time-out."""
    digest = upstream.add_blob("app", b"x" * 1000)
    upstream.misbehave("/blobs/", hold=threading.Event(), hold_after=100)
    client = client_of(upstream, read_timeout=0.1)

    with client.blob("app", digest) as blob, pytest.raises(Unavailable) as raised:
        list(blob.chunks())

    assert raised.value.why is Why.TIMEOUT


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_first_bytes_do_not_wait_for_more(upstream: FakeUpstream, *, chunked: bool) -> None:
    """A slow upstream is passed on as it comes."""
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
    """What a reader holds in memory is bounded."""
    digest = upstream.add_blob("app", b"x" * 3_000_000)

    with client_of(upstream).blob("app", digest) as blob:
        sizes = [len(chunk) for chunk in blob.chunks()]

    assert max(sizes) <= 256 * 1024
    assert sum(sizes) == 3_000_000


def test_blob_size_asks_with_head(upstream: FakeUpstream) -> None:
    """No byte of the blob is fetched."""
    digest = upstream.add_blob("app", b"content")

    assert client_of(upstream).blob_size("app", digest) == 7
    assert [each.method for each in upstream.requests] == ["HEAD"]
    with pytest.raises(Absent):
        client_of(upstream).blob_size("app", Digest.of(b"other"))
