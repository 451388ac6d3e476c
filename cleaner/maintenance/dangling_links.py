"""Links without data are misses; here those that stay misses go, so that names do not pile up.

Only proxied repositories are swept: a hosted link says what was pushed, even if its data is lost.
But a tag's past goes with what it has meant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

# a link may be written before the data that it leads to has landed
_YOUNG_S = 3600
_ORIGIN_YOUNG_S = 24 * 3600


class DanglingLinks:
    """Sweeps dangling links; `clock` gives s, UTC epoch, `stopped` ends it between two links."""

    def __init__(self, store: DataDirectory, clock: Ages, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._stopped = stopped

    def sweep(self) -> None:
        """Remove the links, tags and answers on what is gone, then origins without a repository.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        removed = sum(self._store.storage.delete(key) for key in self._dangling())
        removed += sum(self._store.storage.delete(key) for key in list(self._past()))
        removed += sum(1 for name, tag in self._lost_tags() if self._untag(name, tag))
        removed += sum(self._forget(name) for name in self._empty())
        if removed:
            log.info("dangling links removed", extra={"links": removed})

    def _dangling(self) -> Iterator[str]:
        """Yield the keys of links to what is gone, and of answers about it."""
        for root in self._roots():
            for stat in self._store.storage.walk(root):
                if self._stopped():
                    return
                digest = layout.linked(stat.key)
                if digest and self._is_gone(digest, stat.modified):
                    yield stat.key

    def _roots(self) -> Iterator[str]:
        for name in self._named(is_proxied=True):
            yield layout.layers(name)
            yield layout.revisions(name)
            yield layout.tags(name)
        yield layout.REFERRERS
        yield layout.MEDIA_TYPES

    def _past(self) -> Iterator[str]:
        """Yield the keys of what pushed tags have meant and can't mean again: it was unlinked."""
        for name in self._named(is_proxied=False):
            for stat in self._store.storage.walk(layout.tags(name)):
                digest = layout.linked(stat.key)
                if not digest or self._clock.age(stat.modified) < _YOUNG_S:
                    continue
                if self._store.repositories.linked_manifest(name, digest) is None:
                    yield stat.key

    def _lost_tags(self) -> Iterator[tuple[Repository, Tag]]:
        for name in self._named(is_proxied=True):
            for tag in map(Tag, self._store.repositories.tags(name)):
                state = self._store.repositories.tag(name, tag)
                if state and self._is_gone(state.digest, state.confirmed):
                    yield name, tag

    def _untag(self, name: Repository, tag: Tag) -> bool:
        return self._store.repositories.remove_tag(name, tag)

    def _empty(self) -> Iterator[Repository]:
        """Yield the proxied repositories of which nothing but the origin is left."""
        for stat in self._store.storage.walk(layout.ORIGINS):
            name = layout.origin_of(stat.key)
            if name is None or self._clock.age(stat.modified) < _ORIGIN_YOUNG_S:
                continue
            if not self._stopped() and not self._store.repositories.exists(name):
                yield name

    def _forget(self, name: Repository) -> bool:
        """Remove an origin; put it back if a pull has linked something meanwhile.

        Without its origin a repository would pass for a hosted one.
        """
        upstream = self._store.repositories.origin(name)
        removed = self._store.storage.delete(layout.origin(name))
        if upstream is not None and self._store.repositories.exists(name):
            self._store.repositories.keep_origin(name, upstream)
            return False
        return removed

    def _named(self, *, is_proxied: bool) -> Iterator[Repository]:
        for name in self._store.repositories.below(""):
            if self._stopped():
                return
            if is_proxied == (self._store.repositories.origin(name) is not None):
                yield name

    def _is_gone(self, digest: Digest, since: float) -> bool:
        """Whether nothing is here of it, nor on its way; a spool file becomes data, never back."""
        is_young = self._clock.age(since) < _YOUNG_S
        if is_young or (self._store.spool / layout.spool(digest)).exists():
            return False
        if self._store.blobs.stat(digest) is not None:
            return False
        return self._store.index.entry(digest) is None
