"""Count the references to hosted content, and update the counts while a plan removes images.

If an image is removed, a part of it is removed only if nothing else references the part. Another
hosted image, a link of a proxied repository, or a manifest in the index can reference the part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from entrepot.cleaner.hosted.images import HostedImage, HostedRepository
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.index import IndexEntry
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import TagState

Shared = Callable[[Collection[Digest]], set[Digest]]
"""A `Shared` takes digests, and returns those of them that a proxied repository links."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """A `RemovalPlan` has the tags, links and content that are removed with an image.

    `links` has the manifests to unlink, each with the time of its link (seconds since the UTC
    epoch); `layers` has the blobs to unlink. `entries` has the content to evict, which nothing else
    references. `began` is when the hosted repositories were read (seconds since the UTC epoch);
    content that was used later is kept.
    """

    image: HostedImage
    tags: tuple[tuple[Tag, TagState], ...]
    links: tuple[tuple[Digest, float], ...]
    layers: tuple[Digest, ...]
    entries: tuple[IndexEntry, ...]
    began: float


@dataclass(frozen=True, slots=True)
class HostedContent:
    """A `HostedContent` is the content of all hosted repositories.

    The cleaner began to read the repositories at `began` (seconds since the UTC epoch). `awaited`
    has the content that was pinned at that time: a push had stored it, but had not linked it yet.
    """

    holdings: Sequence[HostedRepository]
    began: float
    awaited: Collection[Digest] = ()


class ReferenceCounts:
    """A `ReferenceCounts` counts the references to hosted content during one plan.

    *gone* has the digests that the plan removes; references from these digests do not count.
    `depart` adds to *gone* the content that is removed with an image.
    """

    def __init__(
        self, hosted_content: HostedContent, store: DataDirectory, shared: Shared, gone: set[Digest]
    ) -> None:
        self._began = hosted_content.began
        self._store = store
        self._index = store.index
        self._shared = shared
        self._cached: set[Digest] | None = None
        self._holdings = {holding.name: holding for holding in hosted_content.holdings}
        self._references: Counter[Digest] = Counter(hosted_content.awaited)
        self._references_in: dict[Repository, Counter[Digest]] = defaultdict(Counter)
        self._tags: dict[Repository, dict[Digest, list[tuple[Tag, TagState]]]] = {}
        self._gone = gone
        for holding in self._holdings.values():
            self._references.update(holding.bound())
            self._tags[holding.name] = _by_digest(holding)
            for image in holding.images:
                self._references.update(image.parts)
                self._references_in[holding.name].update(image.parts)

    def holds(self, digest: Digest) -> bool:
        """Return whether hosted content references *digest*."""
        return self._references[digest] > 0

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Stop counting the references from an image to its parts, and return its removal plan."""
        holding, here = self._holdings[image.name], self._references_in[image.name]
        shared = self._linked_elsewhere()
        self._references.subtract(image.parts)
        here.subtract(image.parts)
        links = [each for each in image.manifests if not here[each] and each in holding.links]
        leaving, tags = dict.fromkeys((image.root, *links)), self._tags[image.name]
        layers = self._layers_to_unlink(image) if holding.is_readable else ()
        return RemovalPlan(
            image,
            tuple(tag for each in leaving for tag in tags.pop(each, ())),
            tuple((each, holding.links[each]) for each in links),
            tuple(layers),
            tuple(self._free([each for each in image.parts if each not in shared])),
            self._began,
        )

    def loosen(self, digest: Digest) -> None:
        """Stop counting the link to a blob as a reference, because the plan removes this link."""
        self._references[digest] -= 1

    def _layers_to_unlink(self, image: HostedImage) -> Iterator[Digest]:
        """Yield the blobs that are unlinked together with an image.

        If a blob was linked after the last use of the image, its link stays. The client that pushed
        the blob may be about to push another manifest that references it. If no such manifest is
        pushed, garbage collection removes the link later.
        """
        holding, here = self._holdings[image.name], self._references_in[image.name]
        for digest in image.blobs:
            if here[digest] or digest not in holding.layers:
                continue
            linked = self._store.repositories.linked_blob(image.name, digest)
            if linked is not None and linked > image.used:
                self._references[digest] += 1
                here[digest] += 1
            else:
                yield digest

    def _free(self, digests: Iterable[Digest]) -> list[IndexEntry]:
        """Return the entries of unreferenced content, manifests before their parts."""
        waiting = [each for each in digests if not self.holds(each) and each not in self._gone]
        free: list[IndexEntry] = []
        while ready := [
            each for each in waiting if self._gone.issuperset(self._index.parents(each))
        ]:
            self._gone.update(ready)
            rows = filter(None, map(self._index.entry, ready))
            free += (row for row in rows if row.used <= self._began)
            waiting = [each for each in waiting if each not in self._gone]
        return free

    def _linked_elsewhere(self) -> set[Digest]:
        """Return the hosted content that proxied repositories link too.

        Only the first call reads the links.
        """
        if self._cached is None:
            self._cached = self._shared(self._references.keys())
        return self._cached


def _by_digest(holding: HostedRepository) -> dict[Digest, list[tuple[Tag, TagState]]]:
    found: dict[Digest, list[tuple[Tag, TagState]]] = {}
    for tag, state in holding.tags.items():
        found.setdefault(state.digest, []).append((tag, state))
    return found
