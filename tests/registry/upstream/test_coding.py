"""Content codings of an upstream's bodies, within bounds."""

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


def _undone(body: bytes, named: str, step: int) -> bytes:
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
def test_a_coding_is_undone(named: str, body: bytes, step: int) -> None:
    """Whatever the pieces are; what is not known is left to the digest."""
    assert _undone(body, named, step) == CONTENT


@pytest.mark.parametrize("length", [1 << 18, 1 << 19, (1 << 18) + 1])
def test_a_body_that_fills_its_last_piece_has_ended(length: int) -> None:
    """Pieces have 256 KiB: nothing is waited for behind the end of the coding."""
    assert _taken(gzip.compress(bytes(length))) == (length, False)


@pytest.mark.parametrize("cut", [1, 8, 1000])
def test_a_coded_body_that_ends_early_is_refused(cut: int) -> None:
    """The length of a coded body does not show it."""
    with pytest.raises(Undecodable):
        _undone(gzip.compress(CONTENT)[:-cut], "gzip", 1000)


def test_a_body_that_is_not_in_its_coding_is_refused() -> None:
    """So is what follows one that is."""
    for body in (b"<html>", gzip.compress(b"x") + b"<html>"):
        with pytest.raises(Undecodable):
            _undone(body, "gzip", 1000)


def test_a_bomb_is_refused() -> None:
    """In one layer zlib has its own limit, in two it is a million to one."""
    bomb = gzip.compress(gzip.compress(bytes(1 << 26)))

    with pytest.raises(Undecodable, match="too many bytes"):
        for _ in decoded(iter([bomb]), ("gzip", "gzip")):
            pass


def test_a_range_of_a_coded_body_is_the_whole_instead(upstream: FakeUpstream) -> None:
    """Its offsets would be those of the coding."""
    digest = upstream.add_blob("app", CONTENT)
    upstream.quirks.coding = "gzip"
    client = client_of(upstream)

    assert client.blob_size("app", digest) is None
    with client.blob("app", digest, 1000, 2000) as blob:
        assert (blob.start, blob.size) == (0, None)
        assert b"".join(blob.chunks()) == CONTENT


def test_a_wrong_label_is_ignored_the_next_time(upstream: FakeUpstream) -> None:
    """A layer that is a gzip file: its digest is of what was sent."""
    layer = gzip.compress(CONTENT)
    digest = upstream.add_blob("app", layer)
    upstream.misbehave(headers={"Content-Encoding": "gzip"})
    client = client_of(upstream)
    found = []
    for _ in range(2):
        with client.blob("app", digest) as blob:
            found.append(Digest.of(b"".join(blob.chunks())))

    assert [Digest.of(CONTENT), digest] == found


def _taken(body: bytes, size: int | None = None) -> tuple[int, bool]:
    """Return how many bytes are decoded of a gzip body, and whether it was refused then."""
    came = 0
    try:
        for piece in decoded(iter([body]), ("gzip",), size):
            came += len(piece)
    except Undecodable:
        return came, True
    return came, False


@pytest.mark.parametrize("size", [1000, 70 << 20], ids=["small", "larger than without a size"])
def test_no_more_is_decoded_than_the_size_that_is_named(size: int) -> None:
    """Memory and disk are used by what is right only."""
    assert _taken(gzip.compress(bytes(size)), size) == (size, False)

    came, refused = _taken(gzip.compress(bytes(size + 1)), size)
    assert refused
    assert came <= size


def test_without_a_size_little_is_decoded_of_what_expands_unusually() -> None:
    """A bomb of one coding has a thousandfold."""
    came, refused = _taken(gzip.compress(bytes(100 << 20), 1))

    assert refused
    assert came <= 64 << 20


def test_without_a_size_a_large_layer_that_expands_as_usual_is_decoded() -> None:
    """A tar that is no gzip file has several times its coding's length."""
    layer = (filler(64 << 10) + bytes(512 << 10)) * 120

    assert _taken(gzip.compress(layer, 1)) == (len(layer), False)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("layer", [gzip.compress(b"text" * 50_000), CONTENT], ids=["gzip", "plain"])
def test_a_wrong_label_is_ignored_at_the_next_request_of_a_blob_whose_size_is_named(
    upstream: FakeUpstream, layer: bytes, *, chunked: bool
) -> None:
    """It decodes to more than its size, or not at all; what was sent is its digest's."""
    digest = upstream.add_blob("app", layer)
    upstream.misbehave(headers={"Content-Encoding": "gzip"}, chunked=chunked, times=2)
    (fetch,) = client_of(upstream).blob_sources("app", digest, len(layer))

    with pytest.raises(Unavailable), fetch(0) as blob:
        list(blob.chunks())
    with fetch(0) as blob:
        assert b"".join(blob.chunks()) == layer
