"""Takes an image out of its repository, so that a crash leaves no tag that points at nothing.

First its tags go, then what permits its manifests, then what permits its blobs; only after that,
in `sweep`, the content. Whoever pushes counts on links that he has looked at, and has pinned what
they lead to before he looked: so what is wanted once the links are away is put back.
"""

from __future__ import annotations

from entrepot.cleaner.hosted.refcounts import RemovalPlan
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import write_lock
from entrepot.datastore.refs import Digest, Repository

_PATIENCE_S = 2.0


class Unlinker:
    """Takes links away, in the turn of whoever writes to a repository."""

    def __init__(self, store: DataDirectory, hosted: HostedRepositories) -> None:
        self._store = store
        self._hosted = hosted
        self._repositories = store.repositories

    def take(self, removal_plan: RemovalPlan) -> bool:
        """Unlink an image; False when it was pulled, pushed or pinned meanwhile, and stays.

        Raises: StorageFull, StorageBroken, IndexUnavailable: what is left goes another time.
        """
        name = removal_plan.image.name
        with write_lock.turn(self._store.state, name, _PATIENCE_S) as mine:
            if not mine or not self._is_as_it_was(removal_plan) or self._is_wanted(removal_plan):
                return False
            self._unlink(removal_plan)
            if self._is_wanted(removal_plan):
                self._put_back(removal_plan)
                return False
            self._forget_referrers(removal_plan)
        return True

    def take_blob(self, name: Repository, digest: Digest, began: float) -> bool:
        """Unlink a blob; False when it was linked, used or pinned since *began* (s, UTC epoch)."""
        with write_lock.turn(self._store.state, name, _PATIENCE_S) as mine:
            linked = self._store.linked_blob(name, digest)
            if not mine or linked is None or linked > began or self._wanted([digest], began):
                return False
            self._repositories.unlink_blob(name, digest)
            if self._wanted([digest], began):
                self._repositories.link_blob(name, digest)
                return False
        return True

    def _is_as_it_was(self, removal_plan: RemovalPlan) -> bool:
        image, links = removal_plan.image, self._repositories
        return (
            all(links.tag(image.name, tag) == state for tag, state in removal_plan.tags)
            and all(
                links.linked_manifest(image.name, each) == at for each, at in removal_plan.links
            )
            and self._hosted.last_use(image.name, image.own) <= image.used
        )

    def _is_wanted(self, removal_plan: RemovalPlan) -> bool:
        links = [digest for digest, _ in removal_plan.links]
        digests = [removal_plan.image.root, *links, *removal_plan.layers]
        return self._wanted(digests, removal_plan.began)

    def _wanted(self, digests: list[Digest], began: float) -> bool:
        """Whether somebody counts on one of these, or has used it since we began to look.

        Who links a blob pins it, stamps it, links it and lets go, in this order.
        """
        index = self._store.index
        rows = filter(None, map(index.entry, digests))
        return bool(index.pinned(digests)) or any(row.used > began for row in rows)

    def _unlink(self, removal_plan: RemovalPlan) -> None:
        name = removal_plan.image.name
        for tag, _ in removal_plan.tags:
            self._repositories.remove_tag(name, tag)
        for digest, _ in removal_plan.links:
            self._repositories.unlink_manifest(name, digest)
        for digest in removal_plan.layers:
            self._repositories.unlink_blob(name, digest)

    def _put_back(self, removal_plan: RemovalPlan) -> None:
        """Link it all again, in the order of a push."""
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
                self._repositories.forget_referrer(removal_plan.image.name, about, digest)
