"""Record which upstreams have sent which content.

All repositories share stored content, so the upstream that sent the bytes matters: an upstream that
claims to have a digest may know only the digest and not the bytes (docs/permissions.md). A proof is
a file beside the content, so that it survives the loss of the index and is removed with the
content.
"""

from __future__ import annotations

from urllib.parse import quote

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage


class Proofs:
    """A `Proofs` has the proofs in one data directory; an upstream's host identifies it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def has(self, digest: Digest, upstream: str) -> bool:
        """Return whether *upstream* has sent bytes that match the digest."""
        return self._storage.stat(layout.proof(digest, _name(upstream))) is not None

    def keep(self, digest: Digest, upstream: str) -> None:
        """Record that *upstream* has sent all bytes of the digest, and that the bytes matched."""
        if not self.has(digest, upstream):
            self._storage.write(layout.proof(digest, _name(upstream)), upstream.encode())

    def forget(self, digest: Digest) -> None:
        """Remove the proofs of deleted content."""
        for name in list(self._storage.list(layout.proofs(digest))):
            self._storage.delete(f"{layout.proofs(digest)}/{name}")


def _name(upstream: str) -> str:
    return quote(upstream.lower(), safe="")
