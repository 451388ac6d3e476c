"""Which upstreams have proven that they have some content, by having sent it.

Content is shared, so it matters who sent its bytes: an upstream that only says that it has a digest
may know nothing but that digest (docs/permissions.md). A proof lies beside the content, so that it
outlives the index, and goes with it.
"""

from __future__ import annotations

from urllib.parse import quote

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage


class Proofs:
    """The proofs in one data directory; an upstream is known by its host."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def has(self, digest: Digest, upstream: str) -> bool:
        """Return whether bytes that *upstream* sent have proven the digest."""
        return self._storage.stat(layout.proof(digest, _name(upstream))) is not None

    def keep(self, digest: Digest, upstream: str) -> None:
        """Note that bytes of which *upstream* sent every one have proven the digest."""
        if not self.has(digest, upstream):
            self._storage.write(layout.proof(digest, _name(upstream)), upstream.encode())

    def forget(self, digest: Digest) -> None:
        """Remove the proofs about content that is gone."""
        for name in list(self._storage.list(layout.proofs(digest))):
            self._storage.delete(f"{layout.proofs(digest)}/{name}")


def _name(upstream: str) -> str:
    return quote(upstream.lower(), safe="")
