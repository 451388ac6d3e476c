"""Decide which content is evicted, in which order, and why.

This module only plans; `sweep` and `hosted.unlink` remove content. An entry is a row of the index.
The index yields its entries in the order of eviction, in which each manifest precedes its parts. If
the plan keeps a manifest, it keeps everything that the manifest references too, so that no manifest
is left without its blobs.

Hosted content is removed one image at a time. Images that have expired by their retention rules are
removed first. Other hosted images are removed only if their rules permit eviction. These evictable
images and the entries of the index are removed in one common order, the least recently used first.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from entrepot.cleaner import readable_units
from entrepot.cleaner.hosted.images import HostedImage
from entrepot.cleaner.hosted.refcounts import RemovalPlan
from entrepot.cleaner.hosted.retention import RetentionRule, expiry
from entrepot.cleaner.reasons import Explanation
from entrepot.cleaner.reasons import Reason as Reason
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest, Repository

Named = Callable[[Digest], Iterable[Digest]]
"""A `Named` returns the parts that a manifest references, as the index recorded them."""
Unasked = Callable[[], Iterable[IndexEntry]]
"""An `Unasked` returns layers that were prefetched 10 minutes ago or earlier and never requested.
"""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """A `StoreLimits` has the limits of the data directory: sizes in bytes, `ttl` in seconds.

    None means no limit of size, and a `ttl` of 0 means no limit of age.

    Eviction for size begins when the used bytes exceed `start`. It also begins when the sum of the
    used bytes and the bytes that waiting downloads need exceeds `room`, the cap. Eviction for size
    ends when this sum is at most `target`.
    """

    ttl: float = 0
    target: int | None = None
    start: int | None = None
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """A `Demand` is the state of the store for which a plan is made.

    Sizes are in bytes. Times are in seconds since the UTC epoch.

    `held` is the number of used bytes, and `needs` the number of bytes that waiting downloads need.
    `lacking` is the number of bytes that must be freed on the disk.

    Accesses before `blind` may be missing from the index. So content with an earlier last use
    counts as used at `blind`. The index was created at `born`, and has no earlier accesses. So
    hosted content with an earlier last use counts as used at `born`. `looked` is when the hosted
    repositories were read. Content that was used after `looked` is kept: it may belong to an image
    that was pushed after that read.
    """

    now: float
    held: int
    needs: int = 0
    blind: float = 0
    born: float = 0
    lacking: int = 0
    looked: float = math.inf

    def without(self, entries: Iterable[IndexEntry]) -> Demand:
        """Return the state after *entries* are evicted."""
        sizes = [entry.size for entry in entries]
        held = self.held - sum(sizes) - OVERHEAD * len(sizes)
        return replace(self, held=held, lacking=max(self.lacking - sum(sizes), 0))


@dataclass(frozen=True, slots=True)
class Eviction:
    """An `Eviction` is an entry to evict.

    `reason` is the reason as a label of metrics; `words` is the reason as a text for the operator.
    """

    entry: IndexEntry
    reason: Reason
    words: str

    @property
    def evictions(self) -> list[Eviction]:
        """Return a list of only this eviction; a `Removal` has a property of the same name."""
        return [self]


@dataclass(frozen=True, slots=True)
class Removal:
    """A `Removal` is a hosted image to remove, with those parts that nothing else references."""

    removal_plan: RemovalPlan
    why: Explanation

    @property
    def evictions(self) -> list[Eviction]:
        """Return the entries whose content is deleted, manifests before their parts."""
        text = f"{self.removal_plan.image}: {self.why.words}"
        return [Eviction(entry, self.why.reason, text) for entry in self.removal_plan.entries]


Step = Eviction | Removal


class HostedCandidates(Protocol):
    """A `HostedCandidates` has the hosted images that a plan may remove."""

    @property
    def images(self) -> Sequence[tuple[HostedImage, RetentionRule]]:
        """Return the removable images, each with its rule, the least recently used first."""
        ...

    @property
    def gone(self) -> set[Digest]:
        """Return the set of the digests that the plan removes; it grows with each planned image."""
        ...

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Stop counting the references from an image to its parts, and return its removal plan."""
        ...


class _Nothing:
    """A `_Nothing` is a `HostedCandidates` without images."""

    images = ()

    def __init__(self) -> None:
        self.gone: set[Digest] = set()

    def depart(self, image: HostedImage) -> RemovalPlan:
        raise AssertionError(image)


def plan(
    entries: Iterable[IndexEntry],
    bounds: StoreLimits,
    moment: Demand,
    *,
    spares: Callable[[Digest], bool],
    named: Named,
    pushed: HostedCandidates | None = None,
    unused: Unasked = tuple,
) -> Iterator[Step]:
    """Yield the removals in their order.

    The caller must carry out each removal before it requests the next. The order is:

    1. images that have expired by their retention rules;
    2. entries that were not used for longer than the TTL;
    3. while space is short, prefetched layers that no client has requested (*unused*);
    4. while space is short, the least recently used entries and evictable images.

    An entry for which *spares* returns True is kept, with everything that it references. The plan
    reads at most one entry of *entries* in advance.
    """
    making = _Plan(bounds, moment, pushed or _Nothing(), unused)
    yield from making.expired()
    yield from making.along(entries, spares, named)


class _Plan:
    """A `_Plan` makes one plan; it counts each removal that it has yielded as done."""

    def __init__(
        self, bounds: StoreLimits, moment: Demand, pushed: HostedCandidates, unused: Unasked
    ) -> None:
        self._bounds = bounds
        self._moment = moment
        self._pushed = pushed
        self._unasked = unused
        self._is_freeing = False
        self._expired_images: set[tuple[Repository, Digest]] = set()

    def expired(self) -> Iterator[Removal]:
        """Yield the images that have expired by their retention rules."""
        for image, rule in self._pushed.images:
            why = expiry(image, rule, _idle_image(image, self._moment))
            if why:
                self._expired_images.add((image.name, image.root))
                yield self._removal(image, why)

    def along(
        self, entries: Iterable[IndexEntry], spares: Callable[[Digest], bool], named: Named
    ) -> Iterator[Step]:
        """Yield the evictions of entries and evictable images, the least recently used first."""
        stays: set[Digest] = set()

        def is_kept(each: IndexEntry) -> bool:
            return each.used >= self._moment.looked or each.digest in stays or spares(each.digest)

        for each in _in_order(entries, self._evictable()):
            if isinstance(each, HostedImage) or not self._why_old(each):
                yield from self._prefetched(is_kept)
            if isinstance(each, HostedImage):
                yield from self._image_for_size(each)
                continue
            if each.digest in self._pushed.gone:
                continue
            why = self._why(each)
            if why is None:
                return
            if is_kept(each):
                stays |= set() if each.kind is ContentKind.BLOB else closure([each.digest], named)
                continue
            yield self._eviction(each, why)

    def _prefetched(self, is_kept: Callable[[IndexEntry], bool]) -> Iterator[Eviction]:
        """Yield the evictions of unused prefetched layers, while space is short.

        A second call yields nothing.
        """
        unused, self._unasked = self._unasked, tuple
        for each in unused() if self._why_short() else ():
            why = self._why_short("prefetched, never requested")
            if why is None:
                return
            if each.digest not in self._pushed.gone and not is_kept(each):
                yield self._eviction(each, why)

    def _eviction(self, entry: IndexEntry, why: Explanation) -> Eviction:
        self._moment = self._moment.without([entry])
        self._pushed.gone.add(entry.digest)
        return Eviction(entry, why.reason, why.words)

    def _evictable(self) -> list[HostedImage]:
        """Return the images that can be evicted for size, the least recently used first."""
        return [
            image
            for image, rule in self._pushed.images
            if rule.is_evictable
            and not rule.keeps(image)
            and (image.name, image.root) not in self._expired_images
        ]

    def _image_for_size(self, image: HostedImage) -> Iterator[Removal]:
        if why := self._why_short():
            yield self._removal(image, why)

    def _removal(self, image: HostedImage, why: Explanation) -> Removal:
        removal_plan = self._pushed.depart(image)
        self._moment = self._moment.without(removal_plan.entries)
        return Removal(removal_plan, why)

    def _why(self, entry: IndexEntry) -> Explanation | None:
        why = self._why_old(entry)
        self._is_freeing = self._is_freeing and not why
        return why or self._why_short()

    def _why_old(self, entry: IndexEntry) -> Explanation | None:
        idle = self._moment.now - max(entry.used, self._moment.blind)
        if not self._bounds.ttl or idle <= self._bounds.ttl:
            return None
        ttl = readable_units.span(self._bounds.ttl)
        return Explanation(Reason.TTL, f"not used for {readable_units.span(idle)}, TTL is {ttl}")

    def _why_short(self, because: str = "least recently used") -> Explanation | None:
        """Return why the next entry must be evicted to free space; None if it need not be.

        After eviction for size has begun, it continues until the target is reached.
        """
        begins = self._is_freeing or is_short(self._bounds, self._moment)
        self._is_freeing = begins and bool(excess(self._bounds, self._moment))
        if self._is_freeing:
            return Explanation(
                Reason.SIZE, f"{_words_of_size(self._bounds, self._moment)}, {because}"
            )
        if self._moment.lacking:
            return Explanation(
                Reason.DISK, f"disk lacks {readable_units.size(self._moment.lacking)}, {because}"
            )
        return None


def is_short(bounds: StoreLimits, moment: Demand) -> bool:
    """Return whether eviction for size must begin, by the limits in *bounds*."""
    if bounds.start is not None and moment.held > bounds.start:
        return True
    if bounds.room is None or not moment.needs:
        return False
    return moment.held + moment.needs > bounds.room


def excess(bounds: StoreLimits, moment: Demand) -> int:
    """Return how many bytes to evict, so that used bytes and waiting downloads fit the target."""
    if bounds.target is None:
        return 0
    return max(moment.held + moment.needs - bounds.target, 0)


def closure(digests: Iterable[Digest], named: Named) -> set[Digest]:
    """Return *digests* and, recursively, all content that they reference."""
    found: set[Digest] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting.extend(named(digest))
    return found


def _in_order(
    entries: Iterable[IndexEntry], images: Sequence[HostedImage]
) -> Iterable[IndexEntry | HostedImage]:
    """Merge entries and images in the order of their last use.

    The merge reads one entry in advance. Without images, *entries* is returned unchanged.
    """
    if not images:
        return entries
    return heapq.merge(entries, images, key=lambda each: each.used)


def _idle_image(image: HostedImage, moment: Demand) -> float:
    return moment.now - max(image.used, moment.blind, moment.born)


def _words_of_size(bounds: StoreLimits, moment: Demand) -> str:
    requested = f", {readable_units.size(moment.needs)} requested" if moment.needs else ""
    used, target = readable_units.size(moment.held), readable_units.size(bounds.target or 0)
    return f"{used} used{requested}, target {target}"
