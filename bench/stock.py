"""Make a data directory as large as after years of use: an index of many rows, and a long log.

Only a few of the blobs in the index have a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from bench.bulk import write_blobs
from entrepot.datastore import layout
from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.drivers.table import on_disk, open_index, open_storage
from entrepot.datastore.index import REBUILT, ContentKind, Index, IndexEntry
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage

SIZE = 1_000_000  # the size of each blob according to the index, in bytes; files have FILE bytes
FILE = 4096
PARTS = 9
IMAGES = 100  # The number of manifests in the data directory; each references PARTS blobs.
_DAY_S = 24 * 3600
_OLDEST_S = 20 * _DAY_S
# The first three bytes of a blob's digest are the blob's number times `_FORTH`, modulo 2**24. So
# there can be at most 2**24 blobs. The multiplier is odd, so the products of different numbers
# differ.
_MIXED = 2**24
_FORTH = 10_368_889
_BACK = pow(_FORTH, -1, _MIXED)


@dataclass(frozen=True, slots=True)
class Stock:
    """A data directory whose index has `rows` blobs; blob 0 is the least recently used."""

    root: Path
    rows: int
    now: float

    @property
    def state(self) -> Path:
        """Return the path of the state directory."""
        return self.root / "entrepot"

    def index(self) -> Index:
        """Open the index of the data directory."""
        return open_index(self.state)

    def storage(self) -> Storage:
        """Open the storage of the data directory."""
        return open_storage(on_disk(self.root))

    def digests(self, start: int = 0) -> Iterator[Digest]:
        """Yield the digests of the blobs, the least recently used first."""
        for number in range(start, self.rows):
            yield digest(number)

    def write_rows(self) -> None:
        """Write the index: blobs, and manifests that reference some of the newest blobs."""
        self.state.mkdir(parents=True)
        index = self.index()
        index.notes.get(REBUILT)  # The first read creates the file of the index.
        index.close()
        write_blobs(self.state / layout.INDEX, self._rows_in_order())
        for number in range(IMAGES):
            names = [digest(self.rows - 1 - number * PARTS - part) for part in range(PARTS)]
            index.record(manifest(number), SIZE, ContentKind.MANIFEST, self.now, children=names)
        index.notes.put({REBUILT: str(self.now)})
        index.close()

    def _rows_in_order(self) -> Iterator[IndexEntry]:
        """Yield the blobs' index entries, sorted by digest, as `write_blobs` needs them."""
        step = _OLDEST_S / self.rows
        for number in _in_order(self.rows):
            used = self.now - _OLDEST_S + step * number
            yield IndexEntry(digest(number), SIZE, ContentKind.BLOB, used)

    def write_files(self, stop: int) -> None:
        """Write files, without fsync, for the blobs with the numbers 0 to *stop* - 1."""
        content = b"\0" * FILE
        for at, each in enumerate(islice(self.digests(), stop)):
            path = self.root / layout.blob(each)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            old = self.now - _OLDEST_S + at
            os.utime(path, (old, old))

    def write_log(self, lines: int) -> int:
        """Write an access log with this number of lines; return its size (bytes)."""
        path = self.state / layout.ACCESS_LOG
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(access_lines(self, lines))
        return path.stat().st_size


def access_lines(stock: Stock, lines: int) -> Iterator[bytes]:
    """Yield log lines in HAProxy's format: a third for manifests, two thirds for 10,000 blobs."""
    chance = random.Random(lines)
    known = [digest(stock.rows - 1 - at) for at in range(min(10_000, stock.rows))]
    manifests = [manifest(at) for at in range(IMAGES)]
    for at in range(lines):
        is_manifest = at % 3 == 0
        wanted = chance.choice(manifests if is_manifest else known)
        kind = "manifest" if is_manifest else "blob"
        line = _line(round(stock.now * 1000) + at // 100, wanted, kind)
        yield _written(line)


def digest(number: int) -> Digest:
    """Return the digest of blob *number*; its first three bytes are the multiplied number.

    `_in_order` can thus compute the order of the digests without sorting them in memory.
    """
    mixed = number * _FORTH % _MIXED
    return Digest("sha256", f"{mixed:06x}{hashlib.sha256(b'row %d' % number).hexdigest()[6:]}")


def _in_order(rows: int) -> Iterator[int]:
    """Yield the numbers of all *rows* blobs, sorted by the digests of the blobs.

    For a large index, a sorted list of all numbers would need too much memory. In that case, the
    function counts through all possible first three bytes of a digest, and computes the blob's
    number from them.
    """
    if rows < _MIXED // 16:
        return iter(sorted(range(rows), key=lambda number: number * _FORTH % _MIXED))
    numbers = (mixed * _BACK % _MIXED for mixed in range(_MIXED))
    return (number for number in numbers if number < rows)


def manifest(number: int) -> Digest:
    """Return the digest of manifest *number*."""
    return Digest("sha256", hashlib.sha256(b"manifest %d" % number).hexdigest())


def chosen(stock: Stock, many: int) -> list[list[Digest]]:
    """Return *many* batches, each of 1,000 digests of random blobs of the stock."""
    chance = random.Random(many)
    return [[digest(chance.randrange(stock.rows)) for _ in range(1_000)] for _ in range(many)]


def _written(line: AccessLine) -> bytes:
    """Return a line as HAProxy writes it, with every slash escaped."""
    text = json.dumps(asdict(line), separators=(",", ":")).replace("/", "\\/")
    return text.encode() + b"\n"


def _line(start: int, wanted: Digest, kind: str) -> AccessLine:
    repository = "quay.io/podman/hello"
    return AccessLine(
        start=start,
        duration=3,
        method="GET",
        status=200,
        termination="--",
        bytes=4_100,
        digest=str(wanted),
        repository=repository,
        kind=kind,
        cache="entrepot; hit",
        user="",
        source="10.0.0.7",
        uri=f"/v2/{repository}/{kind}s/{wanted}",
    )
