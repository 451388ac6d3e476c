"""Plan garbage collection: content that no client can pull is removed after a grace period.

Garbage is:

- a link of a hosted repository to a blob that no manifest of the repository references;
- content that no repository links and no manifest references;
- an abandoned upload.

The content of a running push is safe: its uploaded blobs are younger than the grace period, and the
push pins older blobs that its manifest references. Proxied content is never garbage, because the
eviction policy removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from entrepot.cleaner import readable_units
from entrepot.cleaner.hosted.snapshot import SnapshotPlan
from entrepot.cleaner.maintenance.abandoned_uploads import (
    AbandonedUpload,
    AbandonedUploads,
    UploadPurging,
)
from entrepot.cleaner.policy import Demand, Eviction, Step, StoreLimits, closure, plan
from entrepot.cleaner.reasons import Reason
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.index import Cursor, IndexEntry
from entrepot.datastore.links import UNKNOWN
from entrepot.datastore.refs import Digest, Repository
from entrepot.runtime.clock import Ages

_PAGE = 256


@dataclass(frozen=True, slots=True)
class UnreferencedLink:
    """An `UnreferencedLink` is a link of a hosted repository to a blob without references.

    `began` is when the repositories were read (seconds since the UTC epoch). `words` is the reason
    for the removal as a text for the operator.
    """

    name: Repository
    digest: Digest
    began: float
    words: str


@dataclass(frozen=True, slots=True)
class StaleUpload:
    """A `StaleUpload` is an abandoned upload; `words` states for the operator why it is removed."""

    upload: AbandonedUpload
    words: str


Litter = Step | UnreferencedLink | StaleUpload


class Garbage:
    """A `Garbage` plans the removal of garbage that was not used for *grace* seconds.

    *clock* returns the time in seconds since the UTC epoch. *purging* selects the uploads that are
    garbage. No upload is garbage if *purging* is None, not enabled or dry.
    """

    def __init__(
        self,
        store: DataDirectory,
        grace: float,
        clock: Ages,
        purging: UploadPurging | None = None,
    ) -> None:
        self._store = store
        self._grace = grace
        self._clock = clock
        self._purging = purging

    def plan(self, account: SnapshotPlan) -> Iterator[Litter]:
        """Yield the images that have expired by their retention rules, then the garbage.

        The caller must remove each item before it requests the next. If the caller cannot remove an
        item, it must call `HostedSnapshot.spare`, so that the plan keeps the item. Raises:
        DatastoreError.
        """
        moment = Demand(self._clock(), 0, blind=self._clock.since())
        named = self._store.index.children
        yield from plan(
            (), StoreLimits(), moment, spares=account.spares, named=named, pushed=account
        )
        yield from self._unreferenced_links(account)
        yield from self._unlinked_content(account)
        if self._purging is not None and self._purging.enabled and not self._purging.is_dry:
            yield from stale_uploads(self._store, self._purging, self._clock)

    def _unreferenced_links(self, account: SnapshotPlan) -> Iterator[UnreferencedLink]:
        hosted_content = account.hosted_content()
        for holding in hosted_content.holdings:
            for digest in sorted(holding.loose()):
                row = self._store.index.entry(digest)
                linked = self._store.repositories.linked_blob(holding.name, digest)
                if linked is None or not self._is_old(max(linked, row.used if row else 0)):
                    continue
                why = f"no manifest of {holding.name} references this blob"
                if linked != UNKNOWN:
                    why += f", linked {self._ago(linked)} ago"
                account.loosen(digest)
                yield UnreferencedLink(
                    holding.name, digest, hosted_content.began, f"{why}, {self._grace_words()}"
                )

    def _unlinked_content(self, account: SnapshotPlan) -> Iterator[Eviction]:
        """Yield content that no repository links and no manifest references.

        After a manifest is yielded, its references do not count. So a part is yielded after the
        last manifest that references it.
        """
        index = self._store.index
        waiting = [row.digest for row in self._unnamed() if self._is_removable(account, row)]
        cached = account.shared(closure(waiting, index.children)) if waiting else set()
        while waiting:
            digest = waiting.pop()
            row = index.entry(digest)
            if row is None or digest in cached or not self._is_removable(account, row):
                continue
            if not account.gone.issuperset(index.parents(digest)):
                continue
            below = index.children(digest)
            account.gone.add(digest)
            why = f"nothing links or references it, not used for {self._ago(row.used)}"
            yield Eviction(row, Reason.GARBAGE, f"{why}, {self._grace_words()}")
            waiting.extend(below)

    def _unnamed(self) -> Iterator[IndexEntry]:
        after = None
        while page := self._store.index.unreferenced(after, _PAGE):
            yield from page
            after = Cursor.after(page[-1])

    def _is_removable(self, account: SnapshotPlan, row: IndexEntry) -> bool:
        if not self._is_old(row.used) or row.used > account.hosted_content().began:
            return False
        return row.digest not in account.gone and not account.spares(row.digest)

    def _is_old(self, at: float) -> bool:
        return self._clock.age(at) > self._grace

    def _ago(self, at: float) -> str:
        return readable_units.span(self._clock() - at)

    def _grace_words(self) -> str:
        return f"grace is {readable_units.span(self._grace)}"


def stale_uploads(
    store: DataDirectory, purging: UploadPurging, clock: Ages
) -> Iterator[StaleUpload]:
    """Yield the uploads that received no byte for the configured age.

    Raises: StorageFull, StorageBroken.
    """
    for upload in AbandonedUploads(store).abandoned(clock.before(purging.age)):
        idle = readable_units.span(clock() - upload.modified)
        grace = readable_units.span(purging.age)
        yield StaleUpload(upload, f"upload without a new byte for {idle}, grace is {grace}")
