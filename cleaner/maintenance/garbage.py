"""What nobody can pull and nobody is about to push: it goes after a grace, and the plan says why.

Garbage is a blob that a hosted repository links and no manifest of it names, content that no
repository links and no manifest names, and uploads that nobody goes on with. A push that runs is
safe beside it: what was uploaded is young, and what a manifest is about to name is pinned. What
was pulled through is cache, not garbage: age and size decide about that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from entrepot.cleaner import readable_units
from entrepot.cleaner.hosted.snapshot import SnapshotPlan
from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUpload, AbandonedUploads
from entrepot.cleaner.policy import Demand, Eviction, Step, StoreLimits, closure, plan
from entrepot.cleaner.reasons import Reason
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.index import Cursor, IndexEntry
from entrepot.datastore.refs import Digest, Repository
from entrepot.runtime.clock import Ages

_PAGE = 256
UPLOADS_S = 168 * 3600.0
"""How long an upload may stand still: as long as docker distribution lets it."""


@dataclass(frozen=True, slots=True)
class UnreferencedLink:
    """A blob's link in a repository of which no manifest names it, as of `began` (s, UTC epoch)."""

    name: Repository
    digest: Digest
    began: float
    words: str


@dataclass(frozen=True, slots=True)
class StaleUpload:
    """An upload that nobody goes on with."""

    upload: AbandonedUpload
    words: str


Litter = Step | UnreferencedLink | StaleUpload


class Garbage:
    """Looks for it; *grace* in s, `clock` gives s, UTC epoch."""

    def __init__(self, store: DataDirectory, grace: float, clock: Ages) -> None:
        self._store = store
        self._grace = grace
        self._clock = clock

    def plan(self, account: SnapshotPlan) -> Iterator[Litter]:
        """Yield what goes, first what was pushed and is sent away by the account's rules.

        Whoever takes it away tells the account's stock what would not go.
        Raises: DatastoreError.
        """
        moment = Demand(self._clock(), 0, blind=self._clock.since())
        named = self._store.index.named
        yield from plan(
            (), StoreLimits(), moment, spares=account.spares, named=named, pushed=account
        )
        yield from self._loose(account)
        yield from self._unlinked(account)
        yield from self._stale()

    def _loose(self, account: SnapshotPlan) -> Iterator[UnreferencedLink]:
        hosted_content = account.hosted_content()
        for holding in hosted_content.holdings:
            for digest in sorted(holding.loose()):
                row = self._store.index.entry(digest)
                linked = self._store.linked_blob(holding.name, digest)
                if linked is None or not self._is_old(max(linked, row.used if row else 0)):
                    continue
                why = f"no manifest of {holding.name} names it, linked {self._ago(linked)} ago"
                account.loosen(digest)
                yield UnreferencedLink(
                    holding.name, digest, hosted_content.began, f"{why}, {self._grace_words()}"
                )

    def _unlinked(self, account: SnapshotPlan) -> Iterator[Eviction]:
        """Yield the rows that nobody links and no manifest names, each after all that name it."""
        index = self._store.index
        waiting = [row.digest for row in self._unnamed() if self._may_go(account, row)]
        cached = account.shared(closure(waiting, index.named)) if waiting else set()
        while waiting:
            digest = waiting.pop()
            row = index.entry(digest)
            if row is None or digest in cached or not self._may_go(account, row):
                continue
            if not account.gone.issuperset(index.naming(digest)):
                continue
            below = index.named(digest)
            account.gone.add(digest)
            said = f"nothing links or names it, not used for {self._ago(row.used)}"
            yield Eviction(row, Reason.GARBAGE, f"{said}, {self._grace_words()}")
            waiting.extend(below)

    def _stale(self) -> Iterator[StaleUpload]:
        uploads = AbandonedUploads(self._store)
        for upload in uploads.abandoned(self._clock.before(UPLOADS_S)):
            said = f"upload without a new byte for {self._ago(upload.modified)}"
            yield StaleUpload(upload, f"{said}, grace is {readable_units.span(UPLOADS_S)}")

    def _unnamed(self) -> Iterator[IndexEntry]:
        after = None
        while page := self._store.index.unnamed(after, _PAGE):
            yield from page
            after = Cursor.after(page[-1])

    def _may_go(self, account: SnapshotPlan, row: IndexEntry) -> bool:
        if not self._is_old(row.used) or row.used > account.hosted_content().began:
            return False
        return row.digest not in account.gone and not account.spares(row.digest)

    def _is_old(self, at: float) -> bool:
        return self._clock.age(at) > self._grace

    def _ago(self, at: float) -> str:
        return readable_units.span(self._clock() - at)

    def _grace_words(self) -> str:
        return f"grace is {readable_units.span(self._grace)}"
