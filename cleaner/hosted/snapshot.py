"""Read the hosted repositories once, when a plan first needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from entrepot.cleaner.hosted.images import HostedImage
from entrepot.cleaner.hosted.refcounts import HostedContent, ReferenceCounts, RemovalPlan
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.datastore.refs import Digest


class HostedSnapshot:
    """A `HostedSnapshot` has the hosted repositories as they were last read; several plans use it.

    It also has the content that later plans must keep, because that content was in use when an
    earlier plan was carried out. *clock* returns the time in seconds since the UTC epoch.
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
        """If a rule can remove an image, make the next plan read the repositories again."""
        if not self._rules.are_idle:
            self._survey = None

    def spare(self, digests: Iterable[Digest]) -> None:
        """Keep *digests* in all later plans."""
        self._kept.update(digests)

    def spare_image(self, image: HostedImage) -> None:
        """Keep an image in all later plans."""
        self._kept.add((image.name, image.root))

    def open(self) -> SnapshotPlan:
        """Return the state for a new plan; each of its methods can raise DatastoreError."""
        return SnapshotPlan(self)

    def is_spared(self, digest: Digest) -> bool:
        """Return whether `spare` was called for *digest*."""
        return digest in self._kept

    def images(self) -> list[tuple[HostedImage, RetentionRule]]:
        """Return the removable images, each with its rule, the least recently used first."""
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
        """Return when the repositories were read (seconds since the UTC epoch).

        If they were not read yet, return the current time.
        """
        return self._survey.began if self._survey else self._clock()

    def hosted_content(self) -> HostedContent:
        """Return the content of the hosted repositories; the first call reads it.

        A push pins its content, writes the links, and then removes the pins. Therefore the pins are
        read before the repositories: if a pin was already removed, the links are found.
        """
        if self._survey is None:
            began, pinned = self._clock(), self._hosted.store.index.pins.all()
            self._survey = HostedContent(self._hosted.holdings(), began, pinned)
        return self._survey

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of *digests* that a proxied repository links."""
        return self._hosted.shared(digests)

    def ledger(self, gone: set[Digest]) -> ReferenceCounts:
        """Return a `ReferenceCounts` for a new plan; it adds the removals of the plan to *gone*."""
        return ReferenceCounts(self.hosted_content(), self._hosted.store, self.shared, gone)


class SnapshotPlan:
    """A `SnapshotPlan` is the state of one plan; `gone` has the digests that the plan removes."""

    def __init__(self, stock: HostedSnapshot) -> None:
        self._stock = stock
        self.gone: set[Digest] = set()

    @cached_property
    def images(self) -> Sequence[tuple[HostedImage, RetentionRule]]:
        """Return the removable images, each with its rule, the least recently used first."""
        return self._stock.images()

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Stop counting the references from an image to its parts, and return its removal plan."""
        return self._references.depart(image)

    def hosted_content(self) -> HostedContent:
        """Return the content of the hosted repositories; it does not change during the plan."""
        return self._stock.hosted_content()

    def loosen(self, digest: Digest) -> None:
        """Stop counting the link to a blob as a reference, because the plan removes this link."""
        self._references.loosen(digest)

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of *digests* that a proxied repository links."""
        return self._stock.shared(digests)

    def spares(self, digest: Digest) -> bool:
        """Return whether the plan must keep *digest*.

        The plan must keep it if `spare` was called for it, or if hosted content references it.
        """
        return self._stock.is_spared(digest) or self._references.holds(digest)

    @cached_property
    def _references(self) -> ReferenceCounts:
        return self._stock.ledger(self.gone)
