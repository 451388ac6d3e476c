"""Remove the tags and links of an image from its repository.

The tags are removed first, then the links of manifests, then the links of blobs. Last, `sweep`
deletes the content. So a crash at any step leaves no tag without its manifest.

If a client pushes a manifest with a blob that is already linked, the client does not upload the
blob. The push pins the blob before it checks the link. Therefore the cleaner reads the pins a
second time after it has removed the links. If a push has pinned some of the content since the first
read of the pins, the cleaner restores the links.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from entrepot.cleaner.hosted.refcounts import RemovalPlan
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.errors import StorageFull
from entrepot.datastore.locks import repository_lock
from entrepot.datastore.refs import Digest, Repository

_LOCK_TIMEOUT_S = 2.0


class Unlinker:
    """An `Unlinker` removes links while it has the write lock of the repository."""

    def __init__(self, store: DataDirectory, hosted: HostedRepositories) -> None:
        self._store = store
        self._hosted = hosted
        self._repositories = store.repositories

    def take(self, removal_plan: RemovalPlan) -> bool:
        """Remove the tags and links of an image, and return True.

        Return False, and keep the image, if it was changed, used or pinned since the plan, or if
        another process has locked the repository. Raises: StorageFull, StorageBroken,
        IndexUnavailable. After an exception, a later round removes the rest.
        """
        name = removal_plan.image.name
        with self._lock(name) as is_locked:
            if (
                not is_locked
                or not self._is_unchanged(removal_plan)
                or self._is_image_in_use(removal_plan)
            ):
                return False
            self._unlink(removal_plan)
            if self._is_image_in_use(removal_plan):
                self._restore(removal_plan)
                return False
            self._forget_referrers(removal_plan)
        return True

    def take_blob(self, name: Repository, digest: Digest, began: float) -> bool:
        """Remove the link to a blob, and return True.

        Return False, and keep the link, if the blob is pinned, or was linked or used after *began*
        (seconds since the UTC epoch), or if another process has locked the repository.
        """
        with self._lock(name) as is_locked:
            linked = self._repositories.linked_blob(name, digest)
            if (
                not is_locked
                or linked is None
                or linked > began
                or self._are_in_use([digest], began)
            ):
                return False
            self._repositories.unlink_blob(name, digest)
            if self._are_in_use([digest], began):
                self._repositories.link_blob(name, digest)
                return False
        return True

    @contextmanager
    def _lock(self, name: Repository) -> Iterator[bool]:
        """Wait up to 2 s for the write lock of a repository; yield whether this process has it.

        Yield False also if the disk has no space for the lock file. The caller then continues
        with other content.
        """
        with ExitStack() as opened:
            try:
                lock = repository_lock(self._store.state, name, _LOCK_TIMEOUT_S)
                is_locked = opened.enter_context(lock)
            except StorageFull:
                is_locked = False
            yield is_locked

    def _is_unchanged(self, removal_plan: RemovalPlan) -> bool:
        image, links = removal_plan.image, self._repositories
        return (
            all(links.tag(image.name, tag) == state for tag, state in removal_plan.tags)
            and all(
                links.linked_manifest(image.name, each) == at for each, at in removal_plan.links
            )
            and self._hosted.last_use(image.name, image.own) <= image.used
        )

    def _is_image_in_use(self, removal_plan: RemovalPlan) -> bool:
        links = [digest for digest, _ in removal_plan.links]
        digests = [removal_plan.image.root, *links, *removal_plan.layers]
        return self._are_in_use(digests, removal_plan.began)

    def _are_in_use(self, digests: list[Digest], began: float) -> bool:
        """Return whether one of *digests* is pinned, or was used after *began*.

        *began* is in seconds since the UTC epoch.

        A push pins a blob, records its use, links it and removes the pin, in this order. So content
        of a running push is found by its pin, and content of a completed push by its use.
        """
        index = self._store.index
        rows = filter(None, map(index.entry, digests))
        return bool(index.pins.pinned(digests)) or any(row.used > began for row in rows)

    def _unlink(self, removal_plan: RemovalPlan) -> None:
        name = removal_plan.image.name
        for tag, _ in removal_plan.tags:
            self._repositories.remove_tag(name, tag)
        for digest, _ in removal_plan.links:
            self._repositories.unlink_manifest(name, digest)
        for digest in removal_plan.layers:
            self._repositories.unlink_blob(name, digest)

    def _restore(self, removal_plan: RemovalPlan) -> None:
        """Restore all links and tags of an image, in the order in which a push writes them."""
        name = removal_plan.image.name
        for digest in removal_plan.layers:
            self._repositories.link_blob(name, digest)
        for digest, _ in removal_plan.links:
            self._repositories.link_manifest(name, digest)
        for tag, state in removal_plan.tags:
            self._repositories.set_tag(name, tag, state.digest)

    def _forget_referrers(self, removal_plan: RemovalPlan) -> None:
        for digest, _ in removal_plan.links:
            about = self._hosted.subject(removal_plan.image.name, digest)
            if about:
                self._repositories.remove_referrer(removal_plan.image.name, about, digest)
