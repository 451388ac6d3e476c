"""The client decodes compressed response bodies within limits."""

from __future__ import annotations

import gzip
import zlib

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Unavailable
from entrepot.registry.upstream.coding import Undecodable, codings, decoded
from tests.images import filler
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

CONTENT = filler(900_000)


def _decode_all(body: bytes, named: str, step: int) -> bytes:
    pieces = (body[at : at + step] for at in range(0, len(body), step))
    return b"".join(decoded(pieces, codings({"Content-Encoding": named})))


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("named", "body"),
    [
        ("gzip", gzip.compress(CONTENT)),
        ("GZip , identity", gzip.compress(CONTENT)),
        ("gzip", gzip.compress(CONTENT[:5]) + gzip.compress(CONTENT[5:])),
        ("deflate", zlib.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT, wbits=-15)),
        ("gzip, deflate", zlib.compress(gzip.compress(CONTENT))),
        ("br", CONTENT),
        ("gzip, gzip, gzip, gzip", CONTENT),
    ],
    ids=["gzip", "case", "members", "zlib", "raw", "two", "unknown", "too many"],
)
def test_a_coding_is_decoded(named: str, body: bytes, step: int) -> None:
    """The client decodes a body in pieces of any size.

    The client does not decode an unknown content coding.
    """
    assert _decode_all(body, named, step) == CONTENT


@pytest.mark.parametrize("length", [1 << 18, 1 << 19, (1 << 18) + 1])
def test_a_body_that_fills_its_last_piece_is_complete(length: int) -> None:
    """A body that ends with a full piece of 256 KiB is treated as complete."""
    assert _decode(gzip.compress(bytes(length))) == (length, False)


@pytest.mark.parametrize("cut", [1, 8, 1000])
def test_a_truncated_encoded_body_is_rejected(cut: int) -> None:
    """A compressed body that lacks its last bytes is rejected."""
    with pytest.raises(Undecodable):
        _decode_all(gzip.compress(CONTENT)[:-cut], "gzip", 1000)


def test_a_body_that_is_not_in_its_coding_is_rejected() -> None:
    """A body that is not in the stated coding, or that has trailing bytes, is rejected."""
    for body in (b"<html>", gzip.compress(b"x") + b"<html>"):
        with pytest.raises(Undecodable):
            _decode_all(body, "gzip", 1000)


def test_a_decompression_bomb_is_rejected() -> None:
    """The client rejects a decompression bomb (two gzip layers that expand a million times)."""
    bomb = gzip.compress(gzip.compress(bytes(1 << 26)))

    with pytest.raises(Undecodable, match="too many bytes"):
        for _ in decoded(iter([bomb]), ("gzip", "gzip")):
            pass


def test_the_whole_blob_replaces_a_range_of_an_encoded_body(upstream: FakeUpstream) -> None:
    """If the upstream compresses blobs, the client requests the whole blob instead of a range.

    A range would refer to bytes of the compressed body.
    """
    digest = upstream.add_blob("app", CONTENT)
    upstream.quirks.coding = "gzip"
    client = client_of(upstream)

    assert client.blob_size("app", digest) is None
    with client.blob("app", digest, 1000, 2000) as blob:
        assert (blob.start, blob.size) == (0, None)
        assert b"".join(blob.chunks()) == CONTENT


def test_a_wrong_content_encoding_is_ignored_the_next_time(upstream: FakeUpstream) -> None:
    """If the decoded bytes have a wrong digest, the next request ignores Content-Encoding.

    Some registries send "Content-Encoding: gzip" for a layer that is itself a gzip file.
    """
    layer = gzip.compress(CONTENT)
    digest = upstream.add_blob("app", layer)
    upstream.misbehave(headers={"Content-Encoding": "gzip"})
    client = client_of(upstream)
    found = []
    for _ in range(2):
        with client.blob("app", digest) as blob:
            found.append(Digest.of(b"".join(blob.chunks())))

    assert [Digest.of(CONTENT), digest] == found


def _decode(body: bytes, size: int | None = None) -> tuple[int, bool]:
    """Decode the gzip *body*; return the number of bytes and whether it was rejected."""
    received = 0
    try:
        for piece in decoded(iter([body]), ("gzip",), size):
            received += len(piece)
    except Undecodable:
        return received, True
    return received, False


@pytest.mark.parametrize("size", [1000, 70 << 20], ids=["small", "larger than without a size"])
def test_no_more_than_the_named_size_is_decoded(size: int) -> None:
    """If the size of the content is known, a body that decodes to more bytes is rejected."""
    assert _decode(gzip.compress(bytes(size), 1), size) == (size, False)

    received, refused = _decode(gzip.compress(bytes(size + 1), 1), size)
    assert refused
    assert received <= size


def test_without_a_size_an_unusual_ratio_is_rejected() -> None:
    """If the size is unknown, a body that expands a thousand times is rejected."""
    received, refused = _decode(gzip.compress(bytes(100 << 20), 1))

    assert refused
    assert received <= 64 << 20


@pytest.mark.slow
def test_without_a_size_a_usual_ratio_is_accepted() -> None:
    """If the size is unknown, a tar file that gzip made several times shorter is accepted."""
    layer = (filler(64 << 10) + bytes(512 << 10)) * 120

    assert _decode(gzip.compress(layer, 1)) == (len(layer), False)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("layer", [gzip.compress(b"text" * 50_000), CONTENT], ids=["gzip", "plain"])
def test_a_wrong_content_encoding_is_ignored_the_next_time_with_a_size(
    upstream: FakeUpstream, layer: bytes, *, chunked: bool
) -> None:
    """If the encoded body has the expected size, the next request ignores Content-Encoding."""
    digest = upstream.add_blob("app", layer)
    upstream.misbehave(headers={"Content-Encoding": "gzip"}, chunked=chunked, times=2)
    (fetch,) = client_of(upstream).blob_sources("app", digest, len(layer))

    with pytest.raises(Unavailable), fetch(0) as blob:
        list(blob.chunks())
    with fetch(0) as blob:
        assert b"".join(blob.chunks()) == layer
