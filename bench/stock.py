"""Make a data directory as after years of use: many rows, few files, a long log."""

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

SIZE = 1_000_000  # the size that a row states (bytes); a written file has FILE bytes
FILE = 4096
PARTS = 9
IMAGES = 100  # the data directory has this number of manifests; each references PARTS rows
_DAY_S = 24 * 3600
_OLDEST_S = 20 * _DAY_S
_MIXED = 2**24  # a data directory has at most this number of rows
_FORTH = 10_368_889  # the multiplier is odd, so that it mixes the numbers and loses none
_BACK = pow(_FORTH, -1, _MIXED)


@dataclass(frozen=True, slots=True)
class Stock:
    """A `Stock` is a data directory with `rows` rows; the first row is the least recently used."""

    root: Path
    rows: int
    now: float

    @property
    def state(self) -> Path:
        """Return the state directory."""
        return self.root / "entrepot"

    def index(self) -> Index:
        """Open the index."""
        return open_index(self.state)

    def storage(self) -> Storage:
        """Open the storage."""
        return open_storage(on_disk(self.root))

    def digests(self, start: int = 0) -> Iterator[Digest]:
        """Yield the digests of the rows, the least recently used first."""
        for number in range(start, self.rows):
            yield digest(number)

    def write_rows(self) -> None:
        """Write the index: blobs, and manifests that reference some of the newest."""
        self.state.mkdir(parents=True)
        index = self.index()
        index.notes.get(REBUILT)  # makes the file
        index.close()
        write_blobs(self.state / layout.INDEX, self._rows_in_order())
        for number in range(IMAGES):
            names = [digest(self.rows - 1 - number * PARTS - part) for part in range(PARTS)]
            index.record(manifest(number), SIZE, ContentKind.MANIFEST, self.now, children=names)
        index.notes.put({REBUILT: str(self.now)})
        index.close()

    def _rows_in_order(self) -> Iterator[IndexEntry]:
        """Yield the rows of the blobs in the order of their digests."""
        step = _OLDEST_S / self.rows
        for number in _in_order(self.rows):
            used = self.now - _OLDEST_S + step * number
            yield IndexEntry(digest(number), SIZE, ContentKind.BLOB, used)

    def write_files(self, stop: int) -> None:
        """Write files for the rows before *stop*, without fsync."""
        content = b"\0" * FILE
        for at, each in enumerate(islice(self.digests(), stop)):
            path = self.root / layout.blob(each)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            old = self.now - _OLDEST_S + at
            os.utime(path, (old, old))

    def write_log(self, lines: int) -> int:
        """Write an access log with the given number of lines; return its size (bytes)."""
        path = self.state / layout.ACCESS_LOG
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(access_lines(self, lines))
        return path.stat().st_size


def access_lines(stock: Stock, lines: int) -> Iterator[bytes]:
    """Yield lines in HAProxy's format: a third for manifests, the rest for 10,000 blobs."""
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
    """Return the digest of a row: a fixed mixture of *number*, so that rows can be made in order.

    The first three bytes of the digest differ for each number below 2**24.
    """
    mixed = number * _FORTH % _MIXED
    return Digest("sha256", f"{mixed:06x}{hashlib.sha256(b'row %d' % number).hexdigest()[6:]}")


def _in_order(rows: int) -> Iterator[int]:
    """Yield the numbers below *rows* in the order of their digests.

    A list of many numbers would need too much memory, so all mixtures are computed instead.
    """
    if rows < _MIXED // 16:
        return iter(sorted(range(rows), key=lambda number: number * _FORTH % _MIXED))
    numbers = (mixed * _BACK % _MIXED for mixed in range(_MIXED))
    return (number for number in numbers if number < rows)


def manifest(number: int) -> Digest:
    """Return the digest of a manifest."""
    return Digest("sha256", hashlib.sha256(b"manifest %d" % number).hexdigest())


def chosen(stock: Stock, many: int) -> list[list[Digest]]:
    """Return batches of 1,000 digests that are spread over all rows."""
    chance = random.Random(many)
    return [[digest(chance.randrange(stock.rows)) for _ in range(1_000)] for _ in range(many)]


def _written(line: AccessLine) -> bytes:
    """Return a line in HAProxy's format, with every slash escaped."""
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
