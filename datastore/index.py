"""Define the five protocols of the index; all processes of the appliance share one index.

| protocol | contents |
|---|---|
| `AccessIndex` | the rows: size, kind and last use of each stored object, and its edges |
| `ReservationStore` | disk space promised to transfers, and the check against the cap |
| `PinStore` | marks that keep content from eviction during a push or the life of a signed URL |
| `KeyValueStore` | notes: short texts by key, such as a position in the access log |
| `LinkTimes` | when each link was last confirmed, if the storage stores no times |

A class or function depends only on the protocols that it needs. An `Index` has all five. Each
program opens one `Index` when it starts, and passes its members (such as `notes`) to the code that
needs them. The driver `sqlite` stores all five in one file, so that one transaction can cover
several of them.

If another driver has no transaction that covers two of the protocols, it writes in the order that
the docstrings of this module state. Between two writes, the index at worst counts too many bytes,
or content that should be removed still exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from entrepot.datastore.refs import Digest

REBUILT = "rebuilt"
"""The note `rebuilt` has the time of the latest rebuild. A new, empty index has no such note."""

BORN = "born"
"""The note `born` has the time at which the index began to record uses.

The time is in seconds since the UTC epoch.
"""

SNAPSHOT_AT = "snapshot at"
"""This note has the time of the latest snapshot of the index, in seconds since the UTC epoch."""
SNAPSHOT_SHARDS = "snapshot shards"
"""This note has the hash and the entity tag of each shard of the latest snapshot, as JSON."""


class ContentKind(IntEnum):
    """A `ContentKind` is the kind of stored content.

    If two rows have the same last use, the row whose kind has the smaller number is evicted first.
    """

    INDEX = 0
    MANIFEST = 1
    BLOB = 2


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An `IndexEntry` is one row of the index.

    `size` is in bytes; `used` is the time of the last use, in seconds since the UTC epoch.
    """

    digest: Digest
    size: int
    kind: ContentKind
    used: float


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A `Cursor` is a position in the order of eviction, which is (used, kind, digest).

    The next page of rows begins after this position.
    """

    used: float
    kind: ContentKind
    digest: str

    @classmethod
    def after(cls, entry: IndexEntry) -> Cursor:
        """Return the position directly after *entry*."""
        return cls(entry.used, entry.kind, str(entry.digest))


@dataclass(frozen=True, slots=True)
class Reservation:
    """A `Reservation` is disk space for a download or upload.

    `size` is in bytes; `at` is the time of the reservation, in seconds since the UTC epoch.
    """

    digest: Digest
    size: int
    at: float


@dataclass(frozen=True, slots=True)
class LinkTime:
    """A `LinkTime` is one confirmation: the link `key` named `digest` at the time `at`.

    `at` is in seconds since the UTC epoch.
    """

    key: str
    digest: Digest
    at: float


class KeyValueStore(Protocol):
    """A `KeyValueStore` stores short texts by key. Each method can raise IndexUnavailable."""

    def get(self, key: str) -> str | None:
        """Return the value of *key*; None if the key has no value."""
        ...

    def put(self, values: Mapping[str, str]) -> None:
        """Set the value of each key in *values*, in one transaction; other keys stay unchanged."""
        ...


class ReservationStore(Protocol):
    """A `ReservationStore` stores the reservation of each digest.

    Each method is one transaction, and a caller can repeat a call without harm. Each method can
    raise IndexUnavailable.
    """

    def reserve(
        self,
        digest: Digest,
        size: int,
        max_bytes: int | None,
        at: float,
        max_reserved: int | None = None,
    ) -> bool:
        """Reserve *size* bytes, and return True, if all limits permit it; else return False.

        The first limit is *max_bytes*: `used_bytes` including the new reservation must not be
        larger. If *max_bytes* is not None, no bytes are reserved while the note `REBUILT` is
        absent. The second limit is *max_reserved*, for the sum of all reservations. None means that
        there is no limit.

        A digest has at most one reservation. A second call for the digest replaces the first
        reservation, so that a download can reserve space in steps, or continue the download of a
        process that died. If the second call returns False, the first reservation stays.
        """
        ...

    def release(self, digest: Digest) -> None:
        """Remove the reservation of *digest*, whose bytes were not stored or were deleted."""
        ...

    def all(self) -> list[Reservation]:
        """Return all reservations, the oldest first."""
        ...

    def used_bytes(self) -> int:
        """Return the bytes of all reservations and all rows, also of rows marked for deletion.

        Each row and each reservation counts `budget.OVERHEAD` bytes more than its content. When
        content is recorded, its reservation becomes a row. If no transaction covers reservations
        and rows, the reservations are read first: the content is then counted twice at worst, and
        never missed.
        """
        ...


class PinStore(Protocol):
    """A `PinStore` stores the pins of each digest.

    Each method is one transaction, and a caller can repeat a call without harm. Each method can
    raise IndexUnavailable.
    """

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Exclude *digests* from `mark_for_deletion` until the time *until*.

        *until* is in seconds since the UTC epoch. A digest that has no row in the index can be
        pinned too.
        """
        ...

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Remove the pins of *digests* that `pin` made with the same *until*; other pins stay."""
        ...

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of *digests* that are pinned now."""
        ...

    def all(self) -> set[Digest]:
        """Return all digests that are pinned now."""
        ...


class LinkTimes(Protocol):
    """A `LinkTimes` stores when each link was last confirmed, by the key of the link.

    Only a storage that stores no times needs these link times (`datastore.links`). The links
    themselves are in the storage. So if a time is lost, the link still names the right digest, but
    counts as unconfirmed. Each method is one transaction, and a caller can repeat a call
    without harm. Each method can raise IndexUnavailable.
    """

    def get(self, key: str) -> LinkTime | None:
        """Return when the link *key* was last confirmed, and for which digest; None if unknown."""
        ...

    def confirm(self, key: str, digest: Digest) -> None:
        """Record that the link *key* names *digest* at the current time of the index's clock."""
        ...

    def restore(self, times: Iterable[LinkTime]) -> None:
        """Record confirmations with their times, in one transaction.

        An existing confirmation of the same link is replaced, except if it has the same digest and
        a later time.
        """
        ...

    def page(self, after: str, limit: int) -> list[LinkTime]:
        """Return at most *limit* confirmations with keys greater than *after*, sorted by key."""
        ...

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the times of links that were removed."""
        ...


class AccessIndex(Protocol):
    """An `AccessIndex` stores the rows of all stored objects.

    Each method is one transaction, and a caller can repeat a call without harm. Each method can
    raise IndexUnavailable. A row is marked while the cleaner deletes its content.
    """

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Compare the counters with the rows, and correct wrong counters.

        With *thoroughly*, check all pages of the file too. With or without it, set last uses that
        are in the future to the current time. Return a description of the defect, or an empty text.
        """
        ...

    def record(
        self,
        digest: Digest,
        size: int,
        kind: ContentKind,
        at: float,
        *,
        children: Sequence[Digest] = (),
        prefetched_at: float | None = None,
    ) -> None:
        """Add the row of stored content with the last use *at*.

        If the row exists and has a later last use, the later one stays.

        The row replaces the reservation of *digest*. If no transaction covers rows and
        reservations, the row is added first, and the reservation is released afterwards. If a row
        exists and is marked for deletion, the mark is removed.

        *children* are the digests that a manifest lists; they are stored as edges. From then on, a
        use of the manifest counts as a use of its children too, even of children that are recorded
        later. So the last use of a child is never earlier than that of the manifest, and the
        manifest is evicted first.

        *prefetched_at* is the time when a prefetch of the content began. A new row with this time
        counts as unused until a client requests the content later than *prefetched_at*.
        """
        ...

    def restore(
        self,
        entries: Iterable[IndexEntry],
        children: Mapping[Digest, Sequence[Digest]] | None = None,
    ) -> None:
        """Add the rows of *entries* that are missing; do not change rows that exist.

        *children* has, for each manifest, the digests that the manifest lists. If the row of a
        manifest is added, the last uses of its children become at least as late as that of the
        manifest. The cap is not checked, because the bytes are already stored.
        """
        ...

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Set the last uses of rows, and store *notes*, in one transaction.

        A last use never becomes earlier, and a digest without a row is ignored. All descendants of
        a touched row are touched too. If no transaction covers rows and notes, the notes are stored
        last. One of the notes is the position in the access log. So a caller that was interrupted
        continues from the earlier position: it sets some last uses twice, but never misses one.
        """
        ...

    def children(self, digest: Digest) -> list[Digest]:
        """Return the digests that a manifest lists, in the recorded order."""
        ...

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that list *digest*, the most recently used first."""
        ...

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, also if the row is marked for deletion; None if the row is absent."""
        ...

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of at most *limit* unmarked rows after *after*, in the order of eviction.

        The method returns a list, so that no cursor of the database stays open.
        """
        ...

    def by_digest(self, after: Digest | None, until: Digest | None, limit: int) -> list[IndexEntry]:
        """Return a page of at most *limit* unmarked rows in the order of their digests.

        The first row has a digest greater than *after*, which is None for the first page. The last
        row has at most the digest *until*; None means that there is no such bound. The method
        returns a list, so that no cursor of the database stays open.
        """
        ...

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of the unmarked rows that no manifest lists, in the order of eviction."""
        ...

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return at most *limit* unmarked rows that were prefetched and never requested since.

        The prefetch began earlier than *before*, in seconds since the UTC epoch. The oldest
        prefetch is first in the list. The cleaner can evict such a row before a manifest that lists
        it.
        """
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark the row of *entry*, which the caller has read, for deletion; return True.

        Return False, without a mark, if the row was used or removed since it was read, or if it is
        pinned. If no transaction covers rows and pins, the driver sets the mark first, then reads
        the pins, and removes the mark if there is a pin. This order is safe because a push pins
        content first, and then waits for the end of a removal that has already begun.
        """
        ...

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows, also those that a killed cleaner has marked."""
        ...

    def forget(self, digest: Digest) -> None:
        """Remove a row whose content was deleted; do nothing if the row is not marked any more."""
        ...

    def discard(self, digest: Digest) -> None:
        """Remove a row whose content must not be served, even if it is pinned or not marked."""
        ...


class Index(AccessIndex, Protocol):
    """An `Index` is the index of one appliance: rows, reservations, pins, notes and link times."""

    @property
    def reservations(self) -> ReservationStore:
        """The reservations of this index."""
        ...

    @property
    def pins(self) -> PinStore:
        """The pins of this index."""
        ...

    @property
    def notes(self) -> KeyValueStore:
        """The notes of this index."""
        ...

    @property
    def link_times(self) -> LinkTimes:
        """The times of links in this index."""
        ...

    def close(self) -> None:
        """Close the files and connections of this process; the next method call reopens them."""
        ...
