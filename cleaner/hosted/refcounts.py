"""Who holds what of all that was pushed, kept while one image after the other goes.

What an image needs goes with it only if nobody else needs it: no other image of any repository,
no repository that was pulled through, and no manifest that the index knows.
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
"""Tells which of these are linked by a repository that was pulled through."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What is taken away with an image: its tags, its links, and the content that is then free.

    `links` are the manifests and when each was linked; what was used since `began`, when all this
    was looked at, stays (s, UTC epoch).
    """

    image: HostedImage
    tags: tuple[tuple[Tag, TagState], ...]
    links: tuple[tuple[Digest, float], ...]
    layers: tuple[Digest, ...]
    entries: tuple[IndexEntry, ...]
    began: float


@dataclass(frozen=True, slots=True)
class HostedContent:
    """What all hosted repositories hold, looked at from `began` on (s, UTC epoch).

    `awaited` was pinned then: what a push had stored already and had not linked yet.
    """

    holdings: Sequence[HostedRepository]
    began: float
    awaited: Collection[Digest] = ()


class ReferenceCounts:
    """Counts who holds what; *gone* is what has gone so far.

    That names nothing any more; whoever else lets something go adds it there.
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
        self._held: Counter[Digest] = Counter(hosted_content.awaited)
        self._locally: dict[Repository, Counter[Digest]] = defaultdict(Counter)
        self._tags: dict[Repository, dict[Digest, list[tuple[Tag, TagState]]]] = {}
        self._gone = gone
        for holding in self._holdings.values():
            self._held.update(holding.bound())
            self._tags[holding.name] = _by_digest(holding)
            for image in holding.images:
                self._held.update(image.parts)
                self._locally[holding.name].update(image.parts)

    def holds(self, digest: Digest) -> bool:
        """Whether what was pushed needs it still."""
        return self._held[digest] > 0

    def depart(self, image: HostedImage) -> RemovalPlan:
        """Take an image away and return what goes with it."""
        holding, here = self._holdings[image.name], self._locally[image.name]
        shared = self._linked_elsewhere()
        self._held.subtract(image.parts)
        here.subtract(image.parts)
        links = [each for each in image.manifests if not here[each] and each in holding.links]
        leaving, tags = dict.fromkeys((image.root, *links)), self._tags[image.name]
        layers = self._unlinked(image) if holding.is_readable else ()
        return RemovalPlan(
            image,
            tuple(tag for each in leaving for tag in tags.pop(each, ())),
            tuple((each, holding.links[each]) for each in links),
            tuple(layers),
            tuple(self._free([each for each in image.parts if each not in shared])),
            self._began,
        )

    def loosen(self, digest: Digest) -> None:
        """Count one link less to a blob that no manifest of its repository names."""
        self._held[digest] -= 1

    def _unlinked(self, image: HostedImage) -> Iterator[Digest]:
        """Yield the blobs whose links go with an image.

        What was linked after its last use stays: it waits for another manifest, or is garbage.
        """
        holding, here = self._holdings[image.name], self._locally[image.name]
        for digest in image.blobs:
            if here[digest] or digest not in holding.layers:
                continue
            linked = self._store.linked_blob(image.name, digest)
            if linked is not None and linked > image.used:
                self._held[digest] += 1
                here[digest] += 1
            else:
                yield digest

    def _free(self, digests: Iterable[Digest]) -> list[IndexEntry]:
        """Return the rows of what nobody needs any more, each after all that name it."""
        waiting = [each for each in digests if not self.holds(each) and each not in self._gone]
        free: list[IndexEntry] = []
        while ready := [
            each for each in waiting if self._gone.issuperset(self._index.naming(each))
        ]:
            self._gone.update(ready)
            rows = filter(None, map(self._index.entry, ready))
            free += (row for row in rows if row.used <= self._began)
            waiting = [each for each in waiting if each not in self._gone]
        return free

    def _linked_elsewhere(self) -> set[Digest]:
        """Return what is also linked by proxied repositories: looked for once."""
        if self._cached is None:
            self._cached = self._shared(self._held.keys())
        return self._cached


def _by_digest(holding: HostedRepository) -> dict[Digest, list[tuple[Tag, TagState]]]:
    found: dict[Digest, list[tuple[Tag, TagState]]] = {}
    for tag, state in holding.tags.items():
        found.setdefault(state.digest, []).append((tag, state))
    return found
