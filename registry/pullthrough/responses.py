"""Define the results of a pull, before the API turns these results into HTTP responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.refs import Digest
from entrepot.registry.server.fileslice import Piece


class ResponseSource(Enum):
    """A `ResponseSource` states where a response came from, in the terms of RFC 9211."""

    HIT = "hit"  # The requested content came from the store.
    MISS = "miss"  # The upstream was asked for the content, which the repository did not have.
    COLLAPSED = "collapsed"  # The requested content came from another client's download.
    CONFIRMED = "confirmed"  # The requested content was stored, and the upstream confirmed it.
    # The requested content was stored, but the upstream could not or would not confirm it.
    STALE = "stale"
    PASSED = "passed"  # The requested content was fetched and not stored.


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A `ManifestAnswer` holds a manifest and its `age` in seconds since the last confirmation.

    `age` is None if the manifest needs no confirmation, or if the time of the last confirmation is
    unknown. For a stale manifest, `warning` is the text of the header Warning, and `reason` is the
    result of `manifests.reason`. `is_complete` is True if every part was just found to be stored;
    False if a part is missing or the parts were not checked.
    """

    stored: StoredManifest
    source: ResponseSource
    age: float | None = None
    warning: str | None = None
    reason: str | None = None
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A `StoredBlob` holds the open file of a stored blob.

    The sender of the response closes the file.
    """

    digest: Digest
    size: int
    file: BinaryIO
    source: ResponseSource = ResponseSource.HIT


@dataclass(frozen=True, slots=True)
class ArrivingBlob:
    """An `ArrivingBlob` is a blob that is being downloaded.

    `read(start, stop)` yields the bytes of the blob.

    `size` is in bytes, or None if the upstream did not announce the size. `early` is True if a
    range of the blob may complete before the blob is verified.
    """

    digest: Digest
    size: int | None
    read: Callable[[int, int | None], Iterator[Piece]]
    source: ResponseSource
    early: bool = False


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """A `KnownBlob` holds the size of a blob in bytes, for the response to a HEAD request."""

    digest: Digest
    size: int | None
    source: ResponseSource


BlobAnswer = StoredBlob | ArrivingBlob | KnownBlob
