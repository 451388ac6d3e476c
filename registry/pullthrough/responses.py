"""What the algorithm found, before HTTP puts it into words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.refs import Digest
from entrepot.registry.server.fileslice import Piece


class ResponseSource(Enum):
    """Where an answer came from: RFC 9211 has the words for it."""

    HIT = "hit"  # from disk, nobody asked
    MISS = "miss"  # not here: fetched
    COLLAPSED = "collapsed"  # not here: another client's fetch serves this one as well
    CONFIRMED = "confirmed"  # here, and the upstream said that it still stands
    STALE = "stale"  # here, and the upstream could not or would not say
    PASSED = "passed"  # fetched, not stored


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A manifest: `age` in s since it was last confirmed, None where that means nothing.

    A stale one carries the text of its `warning`, and the `reason` in a word. `whole`: all that
    it names was looked for just now, and is here.
    """

    held: StoredManifest
    source: ResponseSource
    age: float | None = None
    warning: str | None = None
    reason: str | None = None
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob on disk: an open file, which whoever sends it closes."""

    digest: Digest
    size: int
    file: BinaryIO
    source: ResponseSource = ResponseSource.HIT


@dataclass(frozen=True, slots=True)
class ArrivingBlob:
    """A blob that comes in: `read(start, stop)` yields it; `size` in bytes, None when unsaid.

    `early`: a range of it completes before the blob is verified.
    """

    digest: Digest
    size: int | None
    read: Callable[[int, int | None], Iterator[Piece]]
    source: ResponseSource
    early: bool = False


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """A blob that was asked for by HEAD only."""

    digest: Digest
    size: int | None
    source: ResponseSource


BlobAnswer = StoredBlob | ArrivingBlob | KnownBlob
