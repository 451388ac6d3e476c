"""What was pushed, as one round of the cleaner sees it: read only once something is to go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from entrepot.cleaner.hosted.images import HostedImage
from entrepot.cleaner.hosted.refcounts import HostedContent, ReferenceCounts, RemovalPlan
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.datastore.refs import Digest


class HostedSnapshot:
    """All that was pushed, and what of it, or of anything else, turned out to stay.

    `clock` gives s, UTC epoch.
    """

    def __init__(
        self, hosted: HostedRepositories, rules: RetentionRules, clock: Callable[[], float]
    ) -> None:
        self._hosted = hosted
        self._rules = rules
        self._clock = clock
        self._survey: HostedContent | None = None
        self._staying: set[object] = set()

    def renew(self) -> None:
        """Forget what was read, if last uses count that may have moved on."""
        if not self._rules.are_idle:
            self._survey = None

    def spare(self, digests: Iterable[Digest]) -> None:
        """Keep these too, from now on."""
        self._staying.update(digests)

    def spare_image(self, image: HostedImage) -> None:
        """Keep an image, from now on."""
        self._staying.add((image.name, image.root))

    def open(self) -> SnapshotPlan:
        """Return what a plan counts with. Raises: DatastoreError, when it is asked."""
        return SnapshotPlan(self)

    def is_spared(self, digest: Digest) -> bool:
        """Whether somebody said so."""
        return digest in self._staying

    def images(self) -> list[tuple[HostedImage, RetentionRule]]:
        """Return the images that may go, the least recently used first."""
        if self._rules.are_idle:
            return []
        ruled = [
            (holding, self._rules.of(holding.name)) for holding in self.hosted_content().holdings
        ]
        found = [
            (each, rule) for holding, rule in ruled if not rule.is_idle for each in holding.images
        ]
        going = [pair for pair in found if (pair[0].name, pair[0].root) not in self._staying]
        return sorted(going, key=lambda pair: (pair[0].used, str(pair[0])))

    def looked(self) -> float:
        """Return when what was pushed was looked at, or is about to be (s, UTC epoch)."""
        return self._survey.began if self._survey else self._clock()

    def hosted_content(self) -> HostedContent:
        """Return what hosted repositories hold: looked at once.

        Pins first: a push that has let go by then has linked, and its links are seen.
        """
        if self._survey is None:
            began, awaited = self._clock(), self._hosted.store.index.pins()
            self._survey = HostedContent(self._hosted.holdings(), began, awaited)
        return self._survey

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those that a repository links that was pulled through."""
        return self._hosted.shared(digests)

    def ledger(self, gone: set[Digest]) -> ReferenceCounts:
        """Return who holds what, before anything has gone."""
        return ReferenceCounts(self.hosted_content(), self._hosted.store, self.shared, gone)


class SnapshotPlan:
    """The stock while one plan is made."""

    def __init__(self, stock: HostedSnapshot) -> None:
        self._stock = stock
        self.gone: set[Digest] = set()

    @cached_property
    def images(self) -> Sequence[tuple[HostedImage, RetentionRule]]:
        """The images that may go, the least recently used first."""
        return self._stock.images()

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Take an image away and return what goes with it."""
        return self._ledger.depart(image)

    def hosted_content(self) -> HostedContent:
        """Return what hosted repositories held when this began."""
        return self._stock.hosted_content()

    def loosen(self, digest: Digest) -> None:
        """Count one link less to a blob that no manifest of its repository names."""
        self._ledger.loosen(digest)

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those that a repository links that was pulled through."""
        return self._stock.shared(digests)

    def spares(self, digest: Digest) -> bool:
        """Whether something stays."""
        return self._stock.is_spared(digest) or self._ledger.holds(digest)

    @cached_property
    def _ledger(self) -> ReferenceCounts:
        return self._stock.ledger(self.gone)
