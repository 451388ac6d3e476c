"""Read hosted repositories: their images, tags and links.

Hosted content cannot be fetched again from an upstream. So all manifests are read before any
content is removed. If a read fails, an exception ends the plan, and nothing is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from entrepot.cleaner.hosted.images import HostedRepository, ManifestFamily, images
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import manifest
from entrepot.datastore.errors import InvalidManifest, NotFound
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import TagState


class HostedRepositories:
    """A `HostedRepositories` reads hosted repositories; it parses each manifest only once."""

    def __init__(self, store: DataDirectory) -> None:
        self.store = store
        self._repositories = store.repositories
        self._read: dict[Digest, Manifest | None] = {}

    def holdings(self) -> list[HostedRepository]:
        """Return the tags and images of every hosted repository. Raises: DatastoreError."""
        seen: set[Digest] = set()
        found = []
        for name in self._repositories.below(""):
            if self._repositories.origin(name) is None:
                holding = self.holding(name)
                found.append(holding)
                seen.update(digest for image in holding.images for digest in image.parts)
        self._read = {digest: read for digest, read in self._read.items() if digest in seen}
        return found

    def holding(self, name: Repository) -> HostedRepository:
        """Return the content of one hosted repository. Raises: DatastoreError."""
        links, tags = self._links(name), self._tags(name)
        read = self._closure(name, links)
        return HostedRepository(
            name,
            images(name, ManifestFamily(links, tags, read), lambda own: self.last_use(name, own)),
            tags,
            links,
            frozenset(self._repositories.blobs(name)),
            all(read[digest] is not None for digest in links),
        )

    def last_use(self, name: Repository, manifests: Iterable[Digest]) -> float:
        """Return when any of *manifests* was last used (seconds since the UTC epoch).

        A pull or a push is a use.
        """
        last = 0.0
        for digest in manifests:
            row = self.store.index.entry(digest)
            linked = self._repositories.linked_manifest(name, digest)
            last = max(last, row.used if row else 0, linked or 0)
        return last

    def subject(self, name: Repository, digest: Digest) -> Digest | None:
        """Return the digest of the `subject` of a manifest, or None."""
        read = self._manifest(name, digest)
        return read.subject.digest if read and read.subject else None

    def shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of *digests* that a proxied repository links."""
        found: set[Digest] = set()
        for name in self._repositories.below(""):
            if self._repositories.origin(name) is not None:
                found.update(each for each in self._linked(name) if each in digests)
        return found

    def _linked(self, name: Repository) -> Iterator[Digest]:
        yield from self._repositories.blobs(name)
        yield from self._repositories.manifests(name)

    def _links(self, name: Repository) -> dict[Digest, float]:
        """Return the linked manifests of a repository with the time of each link."""
        times = {
            digest: self._repositories.linked_manifest(name, digest)
            for digest in self._repositories.manifests(name)
        }
        return {digest: at for digest, at in times.items() if at is not None}

    def _tags(self, name: Repository) -> dict[Tag, TagState]:
        names = map(Tag, self._repositories.tags(name))
        states = {tag: self._repositories.tag(name, tag) for tag in names}
        return {tag: state for tag, state in states.items() if state is not None}

    def _closure(self, name: Repository, links: Iterable[Digest]) -> dict[Digest, Manifest | None]:
        """Read the linked manifests and, recursively, the manifests that their indexes list."""
        read = {digest: self._manifest(name, digest) for digest in links}
        waiting = [each for each in read.values() if each]
        while waiting:
            above = waiting.pop()
            if above.kind is not ContentKind.INDEX:
                continue
            for digest in above.parts():
                below = None if digest in read else self._manifest(name, digest)
                # `below` is None if the manifest was already read or is not stored. `below` is also
                # None if the digest is that of a blob, because the index of a build cache lists
                # blobs.
                if below:
                    read[digest] = below
                    waiting.append(below)
        return read

    def _manifest(self, name: Repository, digest: Digest) -> Manifest | None:
        """Return the parsed manifest of *digest*; None if it is absent, too large or unreadable.

        The kind and the parts of a manifest are the same in every repository, so each manifest is
        read and parsed only once.
        """
        known = self._read.get(digest)
        if known is None:
            stat = self.store.blobs.stat(digest)
            if stat is None or stat.size > manifest.LARGEST:
                return None
            known = self._read[digest] = self._parsed(name, digest)
        return known

    def _parsed(self, name: Repository, digest: Digest) -> Manifest | None:
        """Read and parse a manifest; return None if it is absent or has an unknown type."""
        try:
            data = self.store.blobs.read(digest)
            return self._repositories.read_manifest(name, digest, data)
        except (InvalidManifest, NotFound):
            return None
