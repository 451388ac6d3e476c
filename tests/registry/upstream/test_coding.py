"""Content codings of an upstream's bodies, within bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest

from datastore.refs import Digest
from registry.upstream.coding import Undecodable, codings, decoded
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

    with pytest.raises(Undecodable, match="far more"):
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
