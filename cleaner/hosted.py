"""What was pushed has no upstream to come back from: the digests that hosted repositories keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cleaner.store import Store
from datastore import manifest
from datastore.errors import InvalidManifest
from datastore.index import Kind
from datastore.manifest import Manifest
from datastore.refs import Digest, Repository


class Hosted:
    """Reads hosted repositories; a manifest that it has read once is not read again."""

    def __init__(self, store: Store) -> None:
        self._blobs = store.blobs
        self._repositories = store.repositories
        self._read: dict[Digest, Manifest | None] = {}

    def kept(self) -> set[Digest]:
        """Return every digest that a hosted repository links, and all that those name.

        Raises: DatastoreError, for what can't be read may name anything.
        """
        kept: set[Digest] = set()
        for name in self._repositories.below(""):
            if self._repositories.origin(name) is None:
                kept.update(self._repositories.blobs(name))
                kept.update(self._images(name))
        self._read = {digest: read for digest, read in self._read.items() if digest in kept}
        return kept

    def _images(self, name: Repository) -> Iterator[Digest]:
        for digest in self._repositories.manifests(name):
            yield from self._whole(digest)

    def _whole(self, digest: Digest) -> Iterator[Digest]:
        """Yield a manifest and what it names: a manifest names blobs, an index its children."""
        yield digest
        read = self._manifest(digest)
        if read is None:
            return
        for part in read.parts():
            yield part
            if read.kind is Kind.INDEX:
                yield from self._whole(part)

    def _manifest(self, digest: Digest) -> Manifest | None:
        if digest not in self._read:
            stat = self._blobs.stat(digest)
            if stat is None or stat.size > manifest.LARGEST:
                return None
            self._read[digest] = self._parsed(digest)
        return self._read[digest]

    def _parsed(self, digest: Digest) -> Manifest | None:
        """Read a manifest; one of a type unknown here names nothing that its links do not."""
        media_type = self._repositories.media_type(digest)
        try:
            return manifest.parse(self._blobs.read(digest), media_type)
        except InvalidManifest:
            return None


class Kept:
    """What stays in one round: what was pushed, looked for only once something is to go."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted
        self._pushed: set[Digest] | None = None
        self._added: set[Digest] = set()

    def spares(self, digest: Digest) -> bool:
        """Whether it stays. Raises: DatastoreError."""
        if self._pushed is None:
            self._pushed = self._hosted.kept()
        return digest in self._pushed or digest in self._added

    def add(self, digests: Iterable[Digest]) -> None:
        """Keep these too, from now on."""
        self._added.update(digests)
