"""Take a snapshot of the hosted repositories, when a plan first needs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from entrepot.cleaner.hosted.images import HostedImage
from entrepot.cleaner.hosted.refcounts import HostedContent, ReferenceCounts, RemovalPlan
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.datastore.refs import Digest


class HostedSnapshot:
    """A `HostedSnapshot` has the hosted repositories, and content that later plans must keep.

    *clock* returns s, UTC epoch.
    """

    def __init__(
        self, hosted: HostedRepositories, rules: RetentionRules, clock: Callable[[], float]
    ) -> None:
        self._hosted = hosted
        self._rules = rules
        self._clock = clock
        self._survey: HostedContent | None = None
        self._kept: set[object] = set()

    def renew(self) -> None:
        """Read the repositories again for the next plan, if a rule depends on access times."""
        if not self._rules.are_idle:
            self._survey = None

    def spare(self, digests: Iterable[Digest]) -> None:
        """Keep *digests* in all later plans of this snapshot."""
        self._kept.update(digests)

    def spare_image(self, image: HostedImage) -> None:
        """Keep an image in all later plans of this snapshot."""
        self._kept.add((image.name, image.root))

    def open(self) -> SnapshotPlan:
        """Return the state for a new plan; its methods raise DatastoreError."""
        return SnapshotPlan(self)

    def is_spared(self, digest: Digest) -> bool:
        """Return whether `spare` has kept a digest."""
        return digest in self._kept

    def images(self) -> list[tuple[HostedImage, RetentionRule]]:
        """Return the images that may be removed with their rules, least recently used first."""
        if self._rules.are_idle:
            return []
        ruled = [
            (holding, self._rules.of(holding.name)) for holding in self.hosted_content().holdings
        ]
        found = [
            (each, rule) for holding, rule in ruled if not rule.is_idle for each in holding.images
        ]
        removable = [pair for pair in found if (pair[0].name, pair[0].root) not in self._kept]
        return sorted(removable, key=lambda pair: (pair[0].used, str(pair[0])))

    def looked(self) -> float:
        """Return when the repositories were read (s, UTC epoch); now if none was read yet."""
        return self._survey.began if self._survey else self._clock()

    def hosted_content(self) -> HostedContent:
        """Return the content of the hosted repositories, which the first call reads.

        The pins are read before the repositories. So content of a running push is either pinned, or
        the push has written its links before the repositories are read.
        """
        if self._survey is None:
            began, pinned = self._clock(), self._hosted.store.index.pins.all()
            self._survey = HostedContent(self._hosted.holdings(), began, pinned)
        return self._survey

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the given digests that a proxied repository links."""
        return self._hosted.shared(digests)

    def ledger(self, gone: set[Digest]) -> ReferenceCounts:
        """Return the reference counts for a new plan, whose removals are added to *gone*."""
        return ReferenceCounts(self.hosted_content(), self._hosted.store, self.shared, gone)


class SnapshotPlan:
    """A `SnapshotPlan` is the state of one plan; `gone` has the digests that the plan removes."""

    def __init__(self, stock: HostedSnapshot) -> None:
        self._stock = stock
        self.gone: set[Digest] = set()

    @cached_property
    def images(self) -> Sequence[tuple[HostedImage, RetentionRule]]:
        """Return the images that may be removed with their rules, least recently used first."""
        return self._stock.images()

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Stop counting the references of an image, and return the plan of its removal."""
        return self._references.depart(image)

    def hosted_content(self) -> HostedContent:
        """Return the content of the hosted repositories, which is the same in the whole plan."""
        return self._stock.hosted_content()

    def loosen(self, digest: Digest) -> None:
        """Stop counting the link to a blob as a reference, because the plan removes this link."""
        self._references.loosen(digest)

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the given digests that a proxied repository links."""
        return self._stock.shared(digests)

    def spares(self, digest: Digest) -> bool:
        """Return whether a digest is kept: it was spared, or hosted content references it."""
        return self._stock.is_spared(digest) or self._references.holds(digest)

    @cached_property
    def _references(self) -> ReferenceCounts:
        return self._stock.ledger(self.gone)
