"""Content by digest: what is stored here was verified here, whatever the driver."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from datastore import layout
from datastore.errors import DigestMismatch
from datastore.refs import Digest
from datastore.storage import Stat, Storage

_CHUNK = 1024 * 1024
LARGEST_READ = 4 * 1024 * 1024
"""Bytes that are read into memory at once: what the largest manifest may have."""


class BlobStore:
    """Every blob and manifest; one that is read by its digest was right when it was stored."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def stat(self, digest: Digest) -> Stat | None:
        """Return size and time of a blob; None when it is absent."""
        return self._storage.stat(layout.blob(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob. Raises: NotFound."""
        return self._storage.open(layout.blob(digest))

    def read(self, digest: Digest, most: int = LARGEST_READ) -> bytes:
        """Return a small blob, such as a manifest: one of at most *most* bytes.

        A client may ask for any layer as a manifest, so a longer one is not read at all. Raises:
        NotFound, also when the blob is longer.
        """
        return self._storage.read(layout.blob(digest), most)

    def write(self, digest: Digest, content: bytes) -> None:
        """Store a small blob. Raises: DigestMismatch."""
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(digest, actual)
        self._storage.write(layout.blob(digest), content)

    def adopt(self, path: Path, digest: Digest, *, verified: Digest | None = None) -> None:
        """Make a finished local file the blob; *path* is gone after.

        *verified* is the digest that the caller computed while it wrote the file; without it the
        file is read once more. Raises: DigestMismatch, and *path* stays.
        """
        actual = verified or digest_of_file(path, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(digest, actual)
        self._storage.adopt(path, layout.blob(digest))

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; False when there was none. Readers that hold it open go on."""
        return self._storage.delete(layout.blob(digest))


def digest_of_file(path: Path, algorithm: str) -> Digest:
    """Read a whole local file and address it."""
    hasher = Digest(algorithm, "").hasher()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return Digest(algorithm, hasher.hexdigest())
