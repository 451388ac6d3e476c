"""What goes, in which order, and why: decided here, done in `sweep` and `unlink`.

The entries come in the order of eviction, which the index keeps so that a manifest stands before
what it names. Whoever goes along it, and spares with each entry that stays what that one names,
leaves nothing that names what is gone.

What was pushed goes in images. Those that their rules send away go first; the others, if they
may be evicted at all, take their places in the same order.
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
"""What a manifest names, as the index recorded it."""
Unasked = Callable[[], Iterable[IndexEntry]]
"""What was fetched ahead, a while ago, and nobody has asked for."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What an operator allows: sizes in bytes, None for no limit; `ttl` in s, 0 for none.

    Eviction for size begins when more than `start` is held, or when what is asked for does not
    fit below `room`; it ends at `target`.
    """

    ttl: float = 0
    target: int | None = None
    start: int | None = None
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the plan is made for: `held` and, asked for by waiting downloads, `needs`, in bytes.

    `now` is in s, UTC epoch. Uses before `blind` may have gone unseen: ages count from there;
    those of what was pushed from `born` too, for before it there was nobody to see. `lacking` is
    what the disk itself has too little, in bytes. `looked` is when it was last seen what was
    pushed: what was used since may be new, and nobody knows yet that it is kept.
    """

    now: float
    held: int
    needs: int = 0
    blind: float = 0
    born: float = 0
    lacking: int = 0
    looked: float = math.inf

    def without(self, entries: Iterable[IndexEntry]) -> Demand:
        """Return the same moment once *entries* are gone."""
        sizes = [entry.size for entry in entries]
        held = self.held - sum(sizes) - OVERHEAD * len(sizes)
        return replace(self, held=held, lacking=max(self.lacking - sum(sizes), 0))


@dataclass(frozen=True, slots=True)
class Eviction:
    """One entry that goes; `words` say to a person what `reason` says to a metric."""

    entry: IndexEntry
    reason: Reason
    words: str

    @property
    def evictions(self) -> list[Eviction]:
        """Return what goes from the disk."""
        return [self]


@dataclass(frozen=True, slots=True)
class Removal:
    """One image that goes, with all that nobody else needs."""

    removal_plan: RemovalPlan
    why: Explanation

    @property
    def evictions(self) -> list[Eviction]:
        """Return what goes from the disk, each after all that names it."""
        said = f"{self.removal_plan.image}: {self.why.words}"
        return [Eviction(entry, self.why.reason, said) for entry in self.removal_plan.entries]


Step = Eviction | Removal


class HostedCandidates(Protocol):
    """What was pushed and may go, while a plan is made; `gone` is what the plan let go."""

    @property
    def images(self) -> Sequence[tuple[HostedImage, RetentionRule]]:
        """Return the images that may go, the least recently used first."""
        ...

    @property
    def gone(self) -> set[Digest]:
        """Return what has gone so far; the plan adds to it."""
        ...

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Take an image away and return what goes with it."""
        ...


class _Nothing:
    """Nothing was pushed that may go."""

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
    """Yield what goes, least recently used first; reads one entry further than it must.

    First goes what was not used for longer than the TTL, then, if size is short, what is *unasked*
    and the least recently used until it is not. What *spares* holds back stays, and all that it
    names.
    """
    making = _Plan(bounds, moment, pushed or _Nothing(), unused)
    yield from making.expired()
    yield from making.along(entries, spares, named)


class _Plan:
    """A plan as it is made: what it has let go is no longer held."""

    def __init__(
        self, bounds: StoreLimits, moment: Demand, pushed: HostedCandidates, unused: Unasked
    ) -> None:
        self._bounds = bounds
        self._moment = moment
        self._pushed = pushed
        self._unasked = unused
        self._begun = False
        self._left: set[tuple[Repository, Digest]] = set()

    def expired(self) -> Iterator[Removal]:
        """Yield the images that their rules send away."""
        for image, rule in self._pushed.images:
            why = expiry(image, rule, _idle_image(image, self._moment))
            if why:
                self._left.add((image.name, image.root))
                yield self._removal(image, why)

    def along(
        self, entries: Iterable[IndexEntry], spares: Callable[[Digest], bool], named: Named
    ) -> Iterator[Step]:
        """Yield what goes of the entries, and of the images that may go with them."""
        stays: set[Digest] = set()

        def is_kept(each: IndexEntry) -> bool:
            return each.used >= self._moment.looked or each.digest in stays or spares(each.digest)

        for each in _in_order(entries, self._evictable()):
            if isinstance(each, HostedImage) or not self._why_old(each):
                yield from self._ahead(is_kept)
            if isinstance(each, HostedImage):
                yield from self._shortage(each)
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

    def _ahead(self, is_kept: Callable[[IndexEntry], bool]) -> Iterator[Eviction]:
        """Yield, once, what was fetched ahead for nobody, as long as room is short."""
        unused, self._unasked = self._unasked, tuple
        for each in unused() if self._why_short() else ():
            why = self._why_short("fetched ahead, never asked for")
            if why is None:
                return
            if each.digest not in self._pushed.gone and not is_kept(each):
                yield self._eviction(each, why)

    def _eviction(self, entry: IndexEntry, why: Explanation) -> Eviction:
        self._moment = self._moment.without([entry])
        self._pushed.gone.add(entry.digest)
        return Eviction(entry, why.reason, why.words)

    def _evictable(self) -> list[HostedImage]:
        """Return the images that may go when room is short, the least recently used first."""
        return [
            image
            for image, rule in self._pushed.images
            if rule.is_evictable
            and not rule.keeps(image)
            and (image.name, image.root) not in self._left
        ]

    def _shortage(self, image: HostedImage) -> Iterator[Removal]:
        if why := self._why_short():
            yield self._removal(image, why)

    def _removal(self, image: HostedImage, why: Explanation) -> Removal:
        removal_plan = self._pushed.depart(image)
        self._moment = self._moment.without(removal_plan.entries)
        return Removal(removal_plan, why)

    def _why(self, entry: IndexEntry) -> Explanation | None:
        why = self._why_old(entry)
        self._begun = self._begun and not why
        return why or self._why_short()

    def _why_old(self, entry: IndexEntry) -> Explanation | None:
        idle = self._moment.now - max(entry.used, self._moment.blind)
        if not self._bounds.ttl or idle <= self._bounds.ttl:
            return None
        ttl = readable_units.span(self._bounds.ttl)
        return Explanation(Reason.TTL, f"not used for {readable_units.span(idle)}, TTL is {ttl}")

    def _why_short(self, because: str = "least recently used") -> Explanation | None:
        """Tell why the next must go; eviction for size, once begun, goes on to the target."""
        begins = self._begun or is_short(self._bounds, self._moment)
        self._begun = begins and bool(excess(self._bounds, self._moment))
        if self._begun:
            return Explanation(
                Reason.SIZE, f"{_words_of_size(self._bounds, self._moment)}, {because}"
            )
        if self._moment.lacking:
            return Explanation(
                Reason.DISK, f"disk lacks {readable_units.size(self._moment.lacking)}, {because}"
            )
        return None


def is_short(bounds: StoreLimits, moment: Demand) -> bool:
    """Whether eviction for size begins: the room above `start` is used, or too small."""
    if bounds.start is not None and moment.held > bounds.start:
        return True
    if bounds.room is None or not moment.needs:
        return False
    return moment.held + moment.needs > bounds.room


def excess(bounds: StoreLimits, moment: Demand) -> int:
    """Return the bytes that must go until all that is asked for fits below the target."""
    if bounds.target is None:
        return 0
    return max(moment.held + moment.needs - bounds.target, 0)


def closure(digests: Iterable[Digest], named: Named) -> set[Digest]:
    """Return *digests*, what they name, and what those name, to the end."""
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
    """Put images among the entries, all by their last use; without any, read no entry ahead."""
    if not images:
        return entries
    return heapq.merge(entries, images, key=lambda each: each.used)


def _idle_image(image: HostedImage, moment: Demand) -> float:
    return moment.now - max(image.used, moment.blind, moment.born)


def _words_of_size(bounds: StoreLimits, moment: Demand) -> str:
    asked = f", {readable_units.size(moment.needs)} asked for" if moment.needs else ""
    held, target = readable_units.size(moment.held), readable_units.size(bounds.target or 0)
    return f"held {held}{asked}, target {target}"
