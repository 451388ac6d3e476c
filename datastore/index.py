"""Define the five protocols of the index, which all processes share.

| protocol | contents |
|---|---|
| `AccessIndex` | the rows: size, kind and last use of each stored object, and its edges |
| `ReservationStore` | disk space promised to transfers, and the check against the cap |
| `PinStore` | marks that keep content from eviction while a push uses it |
| `KeyValueStore` | notes: short texts by key, such as a position in the access log |
| `LinkTimes` | when each link was last confirmed, if the storage keeps no times |

A class or function depends on the narrowest of these protocols. `Index` has all five, for wiring.
The driver `sqlite` has all five in one file, so that one transaction can cover several of them. A
driver without common transactions writes in the order that the docstrings state. So the state
between two writes is safe: the index counts too many bytes, or a removal has not happened yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from entrepot.datastore.refs import Digest

REBUILT = "rebuilt"
"""The note `rebuilt` exists if all stored files have their rows. A lost index has no such note."""

BORN = "born"
"""The note `born` has the time when the index was created: the index knows no earlier use."""

SNAPSHOT_AT = "snapshot at"
"""The note has the time of the last snapshot of the index in a bucket (s, UTC epoch)."""
SNAPSHOT_SHARDS = "snapshot shards"
"""The note has the hash and the entity tag of each part of that snapshot, as JSON."""


class ContentKind(IntEnum):
    """A `ContentKind` is the kind of a row; at equal times the smaller kind is evicted first."""

    INDEX = 0
    MANIFEST = 1
    BLOB = 2


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An `IndexEntry` is one row of the index.

    `size` is in bytes; `used` is the time of the last use, in s, UTC epoch.
    """

    digest: Digest
    size: int
    kind: ContentKind
    used: float


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A `Cursor` is the position after a page; the order of eviction is (used, kind, digest)."""

    used: float
    kind: ContentKind
    digest: str

    @classmethod
    def after(cls, entry: IndexEntry) -> Cursor:
        """Return the position directly after *entry*."""
        return cls(entry.used, entry.kind, str(entry.digest))


@dataclass(frozen=True, slots=True)
class Reservation:
    """A `Reservation` is disk space for a transfer: `size` in bytes, `at` in s, UTC epoch."""

    digest: Digest
    size: int
    at: float


@dataclass(frozen=True, slots=True)
class LinkTime:
    """A `LinkTime` is one confirmation: the link `key` named `digest` at `at` (s, UTC epoch)."""

    key: str
    digest: Digest
    at: float


class KeyValueStore(Protocol):
    """A `KeyValueStore` has short texts by key. Each method raises: IndexUnavailable."""

    def get(self, key: str) -> str | None:
        """Return the value of *key*; None if the key has no value."""
        ...

    def put(self, values: Mapping[str, str]) -> None:
        """Set the value of each key, in one transaction; other keys stay unchanged."""
        ...


class ReservationStore(Protocol):
    """A `ReservationStore` has reserved bytes by digest.

    Each method is one transaction and may be repeated.

    Each method raises: IndexUnavailable.
    """

    def reserve(
        self,
        digest: Digest,
        size: int,
        max_bytes: int | None,
        at: float,
        max_reserved: int | None = None,
    ) -> bool:
        """Reserve *size* bytes if `used_bytes` then stays within *max_bytes* (None: no limit).

        The method `reserve` returns whether the bytes are reserved. A digest has at most one
        reservation. A second call for the digest replaces the first reservation (a download that
        takes over from a dead one, or grows in steps). If the second call is refused, the first
        reservation stays. If *max_bytes* is not None, every call is refused while the note
        `REBUILT` is absent. If *max_reserved* is not None, all reservations together stay within
        that number of bytes.
        """
        ...

    def release(self, digest: Digest) -> None:
        """Remove a reservation whose bytes were not stored, or were deleted."""
        ...

    def all(self) -> list[Reservation]:
        """Return all reservations, the oldest first."""
        ...

    def used_bytes(self) -> int:
        """Return the bytes of all rows, also those marked for deletion, and of all reservations.

        Each row counts `budget.OVERHEAD` bytes in addition to its content. Without a common
        transaction, the reservations are read before the rows, so that content that is recorded
        between the two reads is not missed.
        """
        ...


class PinStore(Protocol):
    """A `PinStore` has pins by digest; each method is one transaction and may be repeated.

    Each method raises: IndexUnavailable.
    """

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Exclude digests from `mark_for_deletion` until *until* (s, UTC epoch).

        A digest without a row can be pinned too.
        """
        ...

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Remove the pins that `pin` made with the same *until*; other pins stay."""
        ...

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the given digests that are pinned now."""
        ...

    def all(self) -> set[Digest]:
        """Return all digests that are pinned now."""
        ...


class LinkTimes(Protocol):
    """A `LinkTimes` has the time at which each link was last confirmed, by the link's key.

    Only a storage without times uses these link times (`datastore.links`). The links themselves are
    in the storage: if a time is lost, its link counts as unconfirmed, but still names the right
    digest. Each method is one transaction and may be repeated. Each method raises:
    IndexUnavailable.
    """

    def get(self, key: str) -> LinkTime | None:
        """Return when a link was last confirmed, and for which digest; None if not recorded."""
        ...

    def confirm(self, key: str, digest: Digest) -> None:
        """Record that the link names *digest* now, by the clock of the index."""
        ...

    def restore(self, times: Iterable[LinkTime]) -> None:
        """Record confirmations at their own times, in one transaction.

        If the index already has a confirmation of the same digest with a later time, that
        confirmation stays. A confirmation of another digest is replaced.
        """
        ...

    def page(self, after: str, limit: int) -> list[LinkTime]:
        """Return up to *limit* times of links with keys after *after*, in order of the keys."""
        ...

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the times of links that were removed."""
        ...


class AccessIndex(Protocol):
    """An `AccessIndex` has the rows of all stored objects.

    Each method is one transaction and may be repeated.

    Each method raises: IndexUnavailable.
    """

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Compare the counters with the rows, *thoroughly* also all pages, and repair them.

        Return a description of the index's defect, or an empty text. The call also sets last uses
        that lie in the future to the current time.
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
        """Make a row, last used at *at* or later, in place of the reservation, if there is one.

        Without a common transaction, the row is made first and the reservation is released
        afterwards.

        A row that is marked for deletion is unmarked.

        *children* are the digests that a manifest lists. The children are stored as edges. A use of
        the manifest then counts as a use of its children too, also of children that are recorded
        later. So the manifest is evicted before its children.

        *prefetched_at* is the time when a prefetch of the content began. A new prefetched row
        counts as unused until a request uses the content after *prefetched_at*.
        """
        ...

    def restore(
        self,
        entries: Iterable[IndexEntry],
        children: Mapping[Digest, Sequence[Digest]] | None = None,
    ) -> None:
        """Make the missing rows; existing rows, also marked ones, stay unchanged.

        *children* has the digests that a new manifest's row lists; no child's last use is then
        earlier than that of the manifest. The cap is not checked, because the bytes are already
        stored.
        """
        ...

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Set the last uses of rows, and store *notes*, in one transaction.

        The later of two times wins, and a touch makes no row. The children of a touched row, and
        their children, are touched too. Without a common transaction, the notes are stored last: a
        caller that was interrupted repeats last uses, which changes nothing, but never loses a last
        use.
        """
        ...

    def children(self, digest: Digest) -> list[Digest]:
        """Return the digests that a manifest lists, in the recorded order."""
        ...

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that list this digest, the last used first."""
        ...

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, also if the row is marked for deletion; None if the row is absent."""
        ...

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of eviction; no cursor stays open."""
        ...

    def by_digest(self, after: Digest | None, until: Digest | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of digests; no cursor stays open.

        *after* is exclusive, or None to begin at the first row. *until* is inclusive, or None to
        end at the last row.
        """
        ...

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of rows that no manifest's row lists, in the order of `oldest`."""
        ...

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return unmarked rows that were prefetched before *before* and not requested since.

        The oldest rows come first. A prefetched unused row may be evicted before a manifest that
        lists it.
        """
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark a row; return False if the row was used, pinned or removed since it was read.

        Without a common transaction, the driver marks the row first and reads the pins afterwards;
        if the row is pinned, the driver removes the mark again. A push pins content first, and then
        waits for a removal that has begun.
        """
        ...

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows, which a killed cleaner may have left."""
        ...

    def forget(self, digest: Digest) -> None:
        """Remove a marked row after its data was deleted; a row that was unmarked since stays."""
        ...


class Index(AccessIndex, Protocol):
    """An `Index` has the rows of one appliance with all other parts."""

    @property
    def reservations(self) -> ReservationStore:
        """The reserved bytes of this index."""
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
        """Close the files and connections of this process; the next method opens them again."""
        ...
