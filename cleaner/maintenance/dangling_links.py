"""Remove dangling links, which are links to content that is not stored any more.

A dangling link does no harm, because a request for its content is a cache miss. But without this
job, such links would accumulate. Only links of proxied repositories are removed: a hosted link
shows that content was pushed, even if the content was lost. In a hosted repository, only entries in
the history of a tag are removed, if their manifest is no longer linked.
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

# A link can be written before its content is committed, so a link younger than this (s) is kept.
_YOUNG_S = 3600
_ORIGIN_YOUNG_S = 24 * 3600

_MOST_SEEN = 100_000
"""A sweep remembers at most this many dangling keys; a later sweep handles the others."""


class FirstSeen:
    """A `FirstSeen` remembers for each key when a sweep first found it dangling.

    If the storage stores no times, this time replaces the modification time of a link. Only keys
    that one of the last two sweeps found are remembered. After a restart no key is remembered,
    which only delays the removals. *clock* returns the time in seconds since the UTC epoch.
    """

    def __init__(self, clock: Ages) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._now: dict[str, float] = {}

    def begin(self) -> None:
        """Begin a sweep: forget the keys that the previous sweep did not find."""
        self._last, self._now = self._now, {}

    def of(self, key: str) -> float:
        """Return the time since which every sweep has found *key* dangling.

        The time is in seconds since the UTC epoch.

        If the previous sweep did not find *key* dangling, return the current time.
        """
        now = self._clock()
        since = self._last.get(key, self._now.get(key, now))
        if len(self._now) < _MOST_SEEN:
            self._now[key] = since
        return since


class DanglingLinks:
    """A `DanglingLinks` removes dangling links.

    *clock* returns the time in seconds since the UTC epoch. If *stopped* returns True, a sweep ends
    before the next link.
    """

    def __init__(self, store: DataDirectory, clock: Ages, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._stopped = stopped
        self._first_seen = FirstSeen(clock)

    def sweep(self) -> None:
        """Remove links, tags, referrers and media types of absent content, then unused origins.

        The origin is the file that records the upstream of a proxied repository. It is unused if
        the repository has no other files.

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
        """Yield the keys of links, referrers and media types whose content is not stored."""
        for root, upstream in self._roots():
            for stat in self._store.storage.walk(root):
                if self._stopped():
                    return
                digest = layout.linked_digest(stat.key)
                if digest and self._is_gone(digest, upstream) and self._is_older(stat, _YOUNG_S):
                    yield stat.key

    def _roots(self) -> Iterator[tuple[str, str | None]]:
        """Yield each folder to search, with the upstream of its repository, or None."""
        for name in self._repositories(is_proxied=True):
            upstream = self._store.repositories.origin(name)
            for folder in (layout.layers(name), layout.revisions(name), layout.tags(name)):
                yield folder, upstream
        yield layout.REFERRERS, None
        yield layout.MEDIA_TYPES, None

    def _stale_history(self) -> Iterator[str]:
        """Yield the keys in the history of hosted tags whose manifest is no longer linked."""
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
        """Yield the proxied repositories that have no file except the origin."""
        for stat in self._store.storage.walk(layout.ORIGINS):
            name = layout.origin_of(stat.key)
            if name is None or self._stopped() or self._store.repositories.exists(name):
                continue
            if self._is_older(stat, _ORIGIN_YOUNG_S):
                yield name

    def _forget(self, name: Repository) -> bool:
        """Remove the origin of an empty repository; return whether it was removed.

        If a pull has added a link meanwhile, restore the origin, because the repository would count
        as hosted without it.
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
        """Return whether content is not stored, has no row, and is not being downloaded.

        *upstream* is the upstream of a proxied repository, or None.

        When a download ends, it renames its spool file to the blob. Therefore the spool file is
        checked first: if the download ends between the two checks, the second check finds the blob.
        """
        spool_file = layout.spool(layout.spool_key(digest, upstream or ""))
        if (self._store.spool / spool_file).exists():
            return False
        if self._store.blobs.stat(digest) is not None:
            return False
        return self._store.index.entry(digest) is None
