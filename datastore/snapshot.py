"""Define the snapshot of the index: 256 objects in the bucket, from which a lost index is restored.

Each of these objects is a *shard*. The shard `entrepot/index/<xx>` has the rows of the digests
whose hash begins with the byte xx. The shard also has the origins of the repositories whose name
has a SHA-256 that begins with xx. A shard is a gzip file with lines of JSON:

| line | contents |
|---|---|
| first | an object with `version`, and `born`, the time since which the index has recorded uses |
| `[name, origin, tag]` | the origin of a repository, and the entity tag of the origin's object |
| `[digest, size, kind, used, children]` | a row of the index; without edges it has no `children` |

A shard is untrusted input, because other programs with access to the bucket could have written it.
So the sizes of a shard, of its decompressed content and of each line are limited, and each value is
checked. A shard with any defect is ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from entrepot.datastore import bounded_json, layout
from entrepot.datastore.errors import InvalidSnapshot, Malformed
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.links import LONGEST_LINE
from entrepot.datastore.manifest import MOST_DESCRIPTORS
from entrepot.datastore.refs import Digest, Repository

SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
"""The names of all shards."""
LARGEST_SHARD: Final = 32 * 1024 * 1024
"""A shard with more bytes than this is not read.

A shard of an index with ten million rows has only a tenth of this size.
"""

_VERSION = 1
_MOST_BYTES = 256 * 1024 * 1024
_LONGEST_LINE = 2 * 1024 * 1024
_LONGEST_TAG = 1024
_LARGEST_TOTAL = 2**54
"""The sizes in the rows of one shard add up to at most this many bytes.

The index adds the sizes of all 256 shards in a signed integer of 64 bits, which must not overflow.
"""
# `MOST_DESCRIPTORS` limits the layers; an image also has one configuration.
_MOST_CHILDREN = MOST_DESCRIPTORS + 1
_CHUNK = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A `SnapshotRow` is a row of the index; `children` are the digests that the manifest lists."""

    entry: IndexEntry
    children: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotOrigin:
    """A `SnapshotOrigin` is a repository's origin, and the entity tag of the origin's object."""

    name: Repository
    upstream: str
    entity_tag: str


class SnapshotStore(Protocol):
    """A `SnapshotStore` reads and writes the objects of a snapshot in a bucket.

    Each method can raise StorageFull and StorageBroken.
    """

    def holds(self) -> bool:
        """Return whether this appliance owns the bucket, and so is permitted to write to it."""
        ...

    def tags(self, key: str) -> Mapping[str, str]:
        """Return the entity tag of each object below *key*."""
        ...

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object; None if it is absent or has more than *max_bytes* bytes."""
        ...

    def write(self, key: str, content: bytes) -> str:
        """Write an object, and return its entity tag."""
        ...

    def remember(self, root: str, values: Mapping[str, tuple[bytes, str]]) -> None:
        """Remember the content of those objects below *root* that still have the given entity tag.

        *values* has the content and the entity tag of each key. A later read of a remembered object
        sends no request.
        """
        ...


def shard_key(shard: str) -> str:
    """Return the key of a shard."""
    return f"{layout.SNAPSHOT}/{shard}"


def shard_of(name: Repository) -> str:
    """Return the shard that has the origin of a repository."""
    return hashlib.sha256(name.name.encode()).hexdigest()[:2]


class ShardEncoder:
    """A `ShardEncoder` compresses the lines of one shard while they are added.

    *born* is in seconds since the UTC epoch. Equal lines in the same order always result in equal
    bytes.
    """

    def __init__(self, born: float) -> None:
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._pieces: list[bytes] = []
        self.count = 0
        self._add({"version": _VERSION, "born": born})

    def add_origin(self, origin: SnapshotOrigin) -> None:
        """Add the origin of a repository."""
        self.count += 1
        self._add([str(origin.name), origin.upstream, origin.entity_tag])

    def add_row(self, row: SnapshotRow) -> None:
        """Add a row of the index."""
        self.count += 1
        entry = row.entry
        line: list[Any] = [str(entry.digest), entry.size, int(entry.kind), entry.used]
        self._add([*line, [str(each) for each in row.children]] if row.children else line)

    def finish(self) -> bytes:
        """Return the compressed shard."""
        self._pieces.append(self._compressor.flush())
        return b"".join(self._pieces)

    def _add(self, value: object) -> None:
        line = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        self._pieces.append(self._compressor.compress(line))


def born_of(content: bytes) -> float:
    """Return `born` of a shard: the time since which the index has recorded uses.

    The time is in seconds since the UTC epoch. Raises: InvalidSnapshot.
    """
    header = _value(next(_lines(content), b""))
    if not isinstance(header, dict) or header.get("version") != _VERSION:
        raise InvalidSnapshot("", "the version of the shard is unknown")
    return _time(header.get("born"))


def parse(content: bytes, shard: str) -> Iterator[SnapshotRow | SnapshotOrigin]:
    """Yield the origins and rows of a shard.

    Raises: InvalidSnapshot at the first defect, so perhaps after some rows were yielded.
    """
    born_of(content)
    lines = _lines(content)
    next(lines)
    total = 0
    for line in lines:
        value = _value(line)
        if not isinstance(value, list):
            raise InvalidSnapshot(_start(line), "not a row of a snapshot")
        try:
            found = _origin(value) if len(value) == 3 else _row(value, shard)  # noqa: PLR2004 - an origin
        except (Malformed, ValueError, TypeError) as error:
            raise InvalidSnapshot(_start(line), f"not a row of a snapshot: {error}") from error
        total += found.entry.size if isinstance(found, SnapshotRow) else 0
        if total > _LARGEST_TOTAL:
            raise InvalidSnapshot(_start(line), "the sum of the sizes in the shard is too large")
        yield found


def _origin(value: list[Any]) -> SnapshotOrigin:
    name, upstream, entity_tag = value
    if not all(isinstance(each, str) for each in value):
        raise TypeError("an origin has three texts")
    # A JSON string can contain an escaped lone surrogate, which UTF-8 cannot encode; then `encode`
    # raises a ValueError.
    if len(upstream.encode()) > LONGEST_LINE or len(entity_tag) > _LONGEST_TAG:
        raise ValueError("an origin is too long")
    return SnapshotOrigin(Repository.parse(name), upstream, entity_tag)


def _row(value: list[Any], shard: str) -> SnapshotRow:
    digest, size, kind, used, *rest = value
    (children,) = rest or ((),)
    if type(size) is not int or not 0 <= size <= _LARGEST_TOTAL:
        raise ValueError("the size is not a valid integer")
    if type(kind) is not int or len(children) > _MOST_CHILDREN:
        raise ValueError("the kind is not an integer, or there are too many children")
    entry = IndexEntry(Digest.parse(digest), size, ContentKind(kind), _time(used))
    if not entry.digest.hex.startswith(shard):
        raise ValueError("the digest belongs to another shard")
    return SnapshotRow(entry, tuple(Digest.parse(each) for each in children))


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSnapshot("", "a time is not a number")
    try:
        at = float(value)
    except OverflowError as error:
        raise InvalidSnapshot("", "a time is out of range") from error
    if not math.isfinite(at):
        raise InvalidSnapshot("", "a time is out of range")
    return at


def _value(line: bytes) -> object:
    try:
        return bounded_json.loads(line, _MOST_CHILDREN + 16)
    except ValueError as error:
        raise InvalidSnapshot(_start(line), "a line of the snapshot is not JSON") from error


def _lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a gzip file; its whole content is never in memory at once."""
    rest, total = b"", 0
    for piece in _pieces(content):
        total += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        if total > _MOST_BYTES or len(rest) > _LONGEST_LINE:
            raise InvalidSnapshot("", "the shard or a line of it is too long")
        yield from whole
    if rest:
        raise InvalidSnapshot(_start(rest), "the shard ends within a line")


def _pieces(content: bytes) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(_GZIP)
    waiting = content
    try:
        while not decompressor.eof:
            piece = decompressor.decompress(waiting, _CHUNK)
            waiting = decompressor.unconsumed_tail
            if not piece and not waiting and not decompressor.eof:
                raise InvalidSnapshot("", "the shard was cut off")
            yield piece
    except zlib.error as error:
        raise InvalidSnapshot("", f"the shard is not a gzip file: {error}") from error
    if decompressor.unused_data:
        raise InvalidSnapshot("", "the shard has bytes after its end")


def _start(line: bytes) -> str:
    return line[:64].decode("utf-8", "replace")
