"""The AccessIndex protocol: what is here, how large, when last wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from entrepot.datastore.refs import Digest

REBUILT = "rebuilt"
"""The note that says: what the storage holds has its rows. A lost index lacks it."""


class ContentKind(IntEnum):
    """What a row is; at equal times the smaller goes first: an index before its manifests."""

    INDEX = 0
    MANIFEST = 1
    BLOB = 2


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One row: `size` in bytes, `used` in s, UTC epoch."""

    digest: Digest
    size: int
    kind: ContentKind
    used: float


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Where a page ended: the order of eviction is (used, kind, digest)."""

    used: float
    kind: ContentKind
    digest: str

    @classmethod
    def after(cls, entry: IndexEntry) -> Cursor:
        """Point just behind *entry*."""
        return cls(entry.used, entry.kind, str(entry.digest))


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room promised to a download that runs or ran: `size` in bytes, `at` in s, UTC epoch."""

    digest: Digest
    size: int
    at: float


class AccessIndex(Protocol):
    """Shared by every process; each verb is one transaction and may be repeated.

    Raises, each verb: IndexUnavailable.
    """

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Compare what is counted with the rows, *thoroughly* all that is kept, and put it right.

        Returns what was wrong; nothing when all was well. No use lies in the future afterwards.
        """
        ...

    def reserve(self, digest: Digest, size: int, cap: int | None, at: float) -> bool:
        """Reserve *size* bytes; False if `used_bytes` would exceed *cap* then (None: no limit).

        A digest has at most one reservation: a second one replaces the first (a download takes
        over from a dead one, or grows in steps); refused, the first stays as it was.
        """
        ...

    def release(self, digest: Digest) -> None:
        """Take a reservation back: nothing came of it and nothing is left of it."""
        ...

    def reservations(self) -> list[Reservation]:
        """Return all of them, the oldest first."""
        ...

    def record(
        self,
        digest: Digest,
        size: int,
        kind: ContentKind,
        at: float,
        *,
        names: Sequence[Digest] = (),
        prefetched_at: float | None = None,
    ) -> None:
        """Turn the reservation, if any, into a row, used at *at* or later; revive a marked one.

        *names* is what a manifest refers to: kept with it, and what of that is here, or comes
        later, is touched with it: in the order of eviction a manifest goes before what it names.
        *prefetched_at* is the time when a prefetch of it began: a new row counts as unused until
        a request uses it after that time.
        """
        ...

    def restore(self, entries: Iterable[IndexEntry]) -> None:
        """Make the rows that are missing; those that are here, marked ones too, stay as they are.

        Without reservations: these bytes lie on the disk already.
        """
        ...

    def touch(self, stamps: Mapping[Digest, float], notes: Mapping[str, str] | None = None) -> None:
        """Move last uses on, and keep *notes*, in one transaction.

        The later time wins; a stamp never makes a row. What a stamped row names is stamped with
        it, and what that names.
        """
        ...

    def note(self, key: str) -> str | None:
        """Return what `touch` kept under *key*."""
        ...

    def children(self, digest: Digest) -> list[Digest]:
        """Return what a manifest names, as it was recorded."""
        ...

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that name this, those used last first."""
        ...

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, marked ones too; None when it is absent."""
        ...

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of eviction; no cursor stays open."""
        ...

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page as `oldest` does, of those rows that no manifest's row names."""
        ...

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return unmarked rows that were fetched ahead before then, and not asked for since.

        The oldest first. Such a row may go before a manifest that names it.
        """
        ...

    def used_bytes(self) -> int:
        """Return the bytes of all rows, marked ones too, and of all reservations.

        Each counts `budget.OVERHEAD` bytes beside its content.
        """
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark a row for deletion: False when it was used, pinned or removed since it was read."""
        ...

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows: those that a cleaner died over."""
        ...

    def forget(self, digest: Digest) -> None:
        """Remove a marked row after its data is gone; one that was revived meanwhile stays."""
        ...

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Exclude these from `mark_for_deletion` until then (s, UTC epoch), also without a row."""
        ...

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Take back what `pin` did with the same *until*; the pins of others stay."""
        ...

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of *digests* that are pinned now."""
        ...

    def pins(self) -> set[Digest]:
        """Return all that is pinned now."""
        ...
