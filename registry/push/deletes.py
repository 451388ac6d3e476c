"""Delete tags and links in hosted repositories.

The cleaner removes the content later, when no tag or link references it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore.content import ContentStore
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry.errors import BlobUnknown, ManifestUnknown
from entrepot.registry.push import referrers
from entrepot.registry.push.manifests import write_lock


@dataclass(frozen=True, slots=True)
class Deletions:
    """A `Deletions` deletes tags and links of hosted repositories; lock files are in `state`."""

    store: ContentStore
    state: Path

    def tag(self, name: Repository, tag: Tag) -> None:
        """Remove a tag and keep its manifest. Raises: ManifestUnknown."""
        with write_lock(self.state, name):
            if not self.store.repositories.remove_tag(name, tag):
                raise ManifestUnknown(f"{name} has no tag {tag}")

    def manifest(self, name: Repository, digest: Digest) -> list[Tag]:
        """Remove every tag of a manifest, then unlink the manifest; return the removed tags.

        Raises: ManifestUnknown.
        """
        removed = []
        links = self.store.repositories
        with write_lock(self.state, name):
            if not links.links_manifest(name, digest):
                raise ManifestUnknown(f"{name} has no {digest}")
            stored = self.store.content(digest, name)
            for tag in map(Tag, links.tags(name)):
                state = links.tag(name, tag)
                if state and state.digest == digest:
                    links.remove_tag(name, tag)
                    removed.append(tag)
            links.unlink_manifest(name, digest)
            about = referrers.subject(stored) if stored else None
            if about:
                links.remove_referrer(name, about, digest)
        return removed

    def blob(self, name: Repository, digest: Digest) -> None:
        """Unlink a blob; other repositories keep their links to the blob. Raises: BlobUnknown."""
        with write_lock(self.state, name):
            if not self.store.repositories.unlink_blob(name, digest):
                raise BlobUnknown(f"{name} has no {digest}")
