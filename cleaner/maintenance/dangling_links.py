"""Remove dangling links, whose content is gone, so that they do not accumulate.

A dangling link does no harm, because the registry treats a request through it as a miss. Only links
of proxied repositories are removed, because a hosted link records a push even if its content is
lost. In a hosted repository, only those entries in the history of a tag are removed whose manifests
are no longer linked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import Stat, time_of
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

# A link may be written before its content is committed, so younger links are kept.
_YOUNG_S = 3600
_ORIGIN_YOUNG_S = 24 * 3600

_MOST_SEEN = 100_000
"""This many dangling keys are remembered; further keys wait for a later sweep."""


class FirstSeen:
    """A `FirstSeen` has for each key when it was first found dangling, in a storage without times.

    Only keys that the last two sweeps saw are remembered. A restart forgets all keys, which only
    delays their removal. *clock* returns s, UTC epoch.
    """

    def __init__(self, clock: Ages) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._now: dict[str, float] = {}

    def begin(self) -> None:
        """Begin a sweep: forget the keys that the last sweep did not see."""
        self._last, self._now = self._now, {}

    def of(self, key: str) -> float:
        """Return since when each sweep has found a key dangling (s, UTC); now for a new key."""
        now = self._clock()
        since = self._last.get(key, self._now.get(key, now))
        if len(self._now) < _MOST_SEEN:
            self._now[key] = since
        return since


class DanglingLinks:
    """Removes dangling links.

    *clock* returns s, UTC epoch; *stopped* ends a sweep between two links.
    """

    def __init__(self, store: DataDirectory, clock: Ages, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._stopped = stopped
        self._first_seen = FirstSeen(clock)

    def sweep(self) -> None:
        """Remove links, tags, referrers and media types without content, and then unused origins.

        The origin is the record of a proxied repository's upstream. An origin is unused if its
        repository has nothing else.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        self._first_seen.begin()
        removed = sum(self._store.repositories.remove_link(key) for key in self._dangling())
        removed += sum(self._store.storage.delete(key) for key in list(self._stale_history()))
        removed += sum(1 for name, tag in self._lost_tags() if self._untag(name, tag))
        removed += sum(self._forget(name) for name in self._empty())
        if removed:
            log.info("dangling links removed", extra={"links": removed})

    def _dangling(self) -> Iterator[str]:
        """Yield the keys of links, referrers and media types whose content is gone."""
        for root, upstream in self._roots():
            for stat in self._store.storage.walk(root):
                if self._stopped():
                    return
                digest = layout.linked_digest(stat.key)
                if digest and self._is_gone(digest, upstream) and self._is_older(stat, _YOUNG_S):
                    yield stat.key

    def _roots(self) -> Iterator[tuple[str, str | None]]:
        """Yield each folder of links, and the upstream of its repository, or None."""
        for name in self._repositories(is_proxied=True):
            upstream = self._store.repositories.origin(name)
            for folder in (layout.layers(name), layout.revisions(name), layout.tags(name)):
                yield folder, upstream
        yield layout.REFERRERS, None
        yield layout.MEDIA_TYPES, None

    def _stale_history(self) -> Iterator[str]:
        """Yield the keys in the history of hosted tags whose manifests are no longer linked."""
        for name in self._repositories(is_proxied=False):
            for stat in self._store.storage.walk(layout.tags(name)):
                digest = layout.linked_digest(stat.key)
                if not digest or self._store.repositories.links_manifest(name, digest):
                    continue
                if self._is_older(stat, _YOUNG_S):
                    yield stat.key

    def _lost_tags(self) -> Iterator[tuple[Repository, Tag]]:
        for name in self._repositories(is_proxied=True):
            for tag in map(Tag, self._store.repositories.tags(name)):
                state = self._store.repositories.tag(name, tag)
                upstream = self._store.repositories.origin(name)
                if state is None or not self._is_gone(state.digest, upstream):
                    continue
                stat = self._store.storage.stat(layout.tag_current(name, tag))
                if stat and self._is_older(stat, _YOUNG_S):
                    yield name, tag

    def _untag(self, name: Repository, tag: Tag) -> bool:
        return self._store.repositories.remove_tag(name, tag)

    def _empty(self) -> Iterator[Repository]:
        """Yield the proxied repositories of which only the origin is left."""
        for stat in self._store.storage.walk(layout.ORIGINS):
            name = layout.origin_of(stat.key)
            if name is None or self._stopped() or self._store.repositories.exists(name):
                continue
            if self._is_older(stat, _ORIGIN_YOUNG_S):
                yield name

    def _forget(self, name: Repository) -> bool:
        """Remove an empty repository's origin; restore it if a pull has added a link meanwhile.

        Without an origin, the repository would count as hosted.
        """
        upstream = self._store.repositories.origin(name)
        removed = self._store.storage.delete(layout.origin(name))
        if upstream is not None and self._store.repositories.exists(name):
            self._store.repositories.set_origin(name, upstream)
            return False
        return removed

    def _repositories(self, *, is_proxied: bool) -> Iterator[Repository]:
        for name in self._store.repositories.below(""):
            if self._stopped():
                return
            if is_proxied == (self._store.repositories.origin(name) is not None):
                yield name

    def _is_older(self, stat: Stat, seconds: float) -> bool:
        """Return whether a link was written, or first found dangling, at least *seconds* ago."""
        written = time_of(stat)
        since = self._first_seen.of(stat.key) if written is None else written
        return self._clock.age(since) >= seconds

    def _is_gone(self, digest: Digest, upstream: str | None) -> bool:
        """Return whether content is not stored, and no download from *upstream* is under way.

        The spool file is checked before the blob, because a download that ends between the checks
        turns the spool file into the blob.
        """
        spool_file = layout.spool(layout.spool_key(digest, upstream or ""))
        if (self._store.spool / spool_file).exists():
            return False
        if self._store.blobs.stat(digest) is not None:
            return False
        return self._store.index.entry(digest) is None
