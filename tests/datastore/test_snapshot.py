"""Tests that a shard (one of 256 parts of a snapshot) is invalid if it has any defect."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from entrepot.datastore import snapshot
from entrepot.datastore.errors import InvalidSnapshot
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.snapshot import (
    ShardEncoder,
    SnapshotOrigin,
    SnapshotRow,
    born_of,
    parse,
)

FIRST = Digest("sha256", "ab" + 62 * "1")
LONG = Digest("sha512", "ab" + 126 * "2")
OTHER = Digest("sha256", 64 * "c")
HEADER = {"version": 1, "born": 5.0}


def _shard(*lines: object, header: object = HEADER) -> bytes:
    """Return a compressed shard with the given lines, which another program could have written."""
    return gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in (header, *lines)))


def test_a_shard_has_its_origins_and_rows() -> None:
    """`parse` returns the same origins and rows that were added to a shard."""
    origin = SnapshotOrigin(Repository("quay.io/podman/hello"), "quay.io", '"tag"')
    rows = [
        SnapshotRow(IndexEntry(FIRST, 7, ContentKind.MANIFEST, 12.25), (OTHER, LONG)),
        SnapshotRow(IndexEntry(LONG, 2**40, ContentKind.BLOB, 1e9)),
    ]
    encoder = ShardEncoder(3.5)
    encoder.add_origin(origin)
    for row in rows:
        encoder.add_row(row)
    content = encoder.finish()

    assert born_of(content) == 3.5
    assert list(parse(content, "ab")) == [origin, *rows]


_ROW = [str(FIRST), 1, 2, 3.0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip file",
        _shard(_ROW)[:-9],
        _shard(_ROW) + b"more",
        _shard(_ROW, header={"version": 2, "born": 1}),
        _shard(_ROW, header={"version": 1}),
        _shard(_ROW, header=[1]),
        gzip.compress(b'{"version":1,"born":1}\n["without an end"'),
        gzip.compress(b'{"version":1,"born":1}\nno JSON\n'),
        gzip.compress(b'{"version":1,"born":1}\n' + b"[" * 100_000 + b"\n"),
        _shard("a text"),
        _shard([str(OTHER), 1, 2, 3.0]),
        _shard(["md5:00", 1, 2, 3.0]),
        _shard([7, 1, 2, 3.0]),
        _shard([str(FIRST), -1, 2, 3.0]),
        _shard([str(FIRST), 2**63, 2, 3.0]),
        _shard([str(FIRST), 1.5, 2, 3.0]),
        _shard([str(FIRST), True, 2, 3.0]),
        _shard([str(FIRST), 1, 3, 3.0]),
        _shard([str(FIRST), 1, "2", 3.0]),
        _shard([str(FIRST), 1, 2, "3"]),
        gzip.compress(b'{"version":1,"born":1}\n["%b",1,2,1e999]\n' % str(FIRST).encode()),
        gzip.compress(
            b'{"version":1,"born":1}\n["%b",1,2,1%b]\n' % (str(FIRST).encode(), b"0" * 400)
        ),
        _shard([str(FIRST), 1, 1, 3.0, [str(OTHER), "x"]]),
        _shard([str(FIRST), 1, 1, 3.0, 5]),
        _shard([str(FIRST), 1, 1, 3.0, [], []]),
        _shard([str(FIRST), 1, 1, 3.0, [str(OTHER)] * 10_002]),
        _shard(["a/b", "host", 5]),
        _shard(["A/B", "host", "tag"]),
        _shard(["a/b", "h" * 5000, "tag"]),
        _shard(["a/b", "host", "t" * 2000]),
    ],
    ids=range(31),
)
def test_a_shard_with_a_defect_is_invalid(content: bytes) -> None:
    """If a shard has a defect, `parse` raises InvalidSnapshot and no other exception."""
    with pytest.raises(InvalidSnapshot):
        list(parse(content, "ab"))


def test_the_same_rows_make_the_same_bytes() -> None:
    """Equal rows result in equal bytes, so that an unchanged shard is not written again."""

    def made() -> bytes:
        encoder = ShardEncoder(1.0)
        encoder.add_row(SnapshotRow(IndexEntry(FIRST, 7, ContentKind.BLOB, 12.25)))
        return encoder.finish()

    assert made() == made()


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"a" * 1024 * 1024, b"[]\n" * 1024])
def test_a_shard_that_grows_without_end_is_refused_early(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a small shard decompresses to more bytes than allowed, the reader rejects it early."""
    monkeypatch.setattr(snapshot, "_MOST_BYTES", 8 * 1024 * 1024)
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [bomb.compress(json.dumps(HEADER).encode() + b"\n")]
    pieces += [bomb.compress(line * (1024 * 1024 // len(line))) for _ in range(64)]
    seen: list[int] = []

    with pytest.raises(InvalidSnapshot, match="too long"):
        seen.extend(len(each) + 1 for each in snapshot._lines(b"".join([*pieces, bomb.flush()])))

    assert sum(seen) <= 8 * 1024 * 1024


def test_an_origin_without_a_utf_8_form_makes_the_shard_invalid() -> None:
    """A shard is invalid if an origin has no UTF-8 form, because of a lone surrogate."""
    with pytest.raises(InvalidSnapshot):
        list(parse(_shard(["library/alpine", "\ud800", "tag"]), "ab"))


def test_sizes_whose_sum_the_index_cannot_hold_make_the_shard_invalid() -> None:
    """A shard is invalid if the sizes of 256 such shards would overflow the index's counter."""
    rows = [[f"sha256:ab{number:062x}", 2**53, 1, 3.0] for number in range(3)]
    assert len(list(parse(_shard(*rows[:2]), "ab"))) == 2

    with pytest.raises(InvalidSnapshot):
        list(parse(_shard(*rows), "ab"))
