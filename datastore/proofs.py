"""Record which upstreams have sent which content.

All repositories share stored content. An upstream could claim to have content of which it knows
only the digest. Clients of this upstream could then pull content of another repository
(docs/permissions.md). Only an upstream that has sent the bytes has proven that it has them.

A proof is a file in the storage, so a loss of the index does not remove it. The proof is removed
with the content.
"""

from __future__ import annotations

from urllib.parse import quote

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage


class Proofs:
    """A `Proofs` stores the proofs in one data directory; `upstream` is the host of an upstream."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def has(self, digest: Digest, upstream: str) -> bool:
        """Return whether *upstream* has sent the bytes of *digest*."""
        return self._storage.stat(layout.proof(digest, _name(upstream))) is not None

    def keep(self, digest: Digest, upstream: str) -> None:
        """Record that *upstream* has sent all bytes of *digest*, which the caller has verified."""
        if not self.has(digest, upstream):
            self._storage.write(layout.proof(digest, _name(upstream)), upstream.encode())

    def forget(self, digest: Digest) -> None:
        """Remove the proofs of deleted content."""
        for name in list(self._storage.list(layout.proofs(digest))):
            self._storage.delete(f"{layout.proofs(digest)}/{name}")


def _name(upstream: str) -> str:
    return quote(upstream.lower(), safe="")
