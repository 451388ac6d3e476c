"""Whether a stored file is what its digest names: by its length at every open, else by its bytes.

The right length of a digest never changes. So what was once known of it (by whoever verified it,
the index, and the manifests that name it) is remembered, and a hit compares two numbers. Where
nothing is known, or what is known differs from the file, the file is hashed: only that decides.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import BinaryIO

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError, InvalidManifest, NotFound, refusal
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.manifest import LARGEST, parse
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage
from entrepot.datastore.unverified import Unproven

_CHUNK = 1024 * 1024
_MOST = 32 * 1024
"""How many lengths a process remembers: about 5 MB."""

_NAMING = 4  # manifests that are asked how long a blob is


@dataclass(frozen=True, slots=True)
class Integrity:
    """What one process knows of its stored content; shared by its threads."""

    storage: Storage
    index: AccessIndex
    quarantine: Quarantine
    unproven: Unproven
    # PERF: by the digest's hex; the digest itself is hashed by code in Python. The algorithms
    # differ in its length, so it names one digest.
    _sizes: dict[str, int] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def knows(self, digest: Digest, size: int) -> bool:
        """Whether content of this digest is known to have *size* bytes."""
        return self._sizes.get(digest.hex) == size

    def learn(self, digest: Digest, size: int) -> None:
        """Remember how long verified content is, in bytes."""
        sizes = self._sizes
        sizes[digest.hex] = size
        while len(sizes) > _MOST:
            try:
                sizes.pop(next(iter(sizes)), None)
            except (RuntimeError, StopIteration):  # another thread was quicker
                return

    def admits(self, digest: Digest, file: BinaryIO, size: int) -> bool:
        """Whether an open file of *size* bytes may be sent; one that may not is put aside.

        Raises: StorageFull, StorageBroken.
        """
        if self.knows(digest, size):
            return True
        if self._is_announced(digest, size):
            self.learn(digest, size)
            return True
        with self._turn:  # one at a time: several clients ask for the same
            return self.knows(digest, size) or self.prove(digest, file, size, found="open")

    def prove(self, digest: Digest, file: BinaryIO, size: int, *, found: str) -> bool:
        """Hash an open file of *size* bytes; one that is wrong is put aside.

        Raises: StorageFull, StorageBroken.
        """
        try:
            actual, length = digest_of(file, digest.algorithm)
        except OSError as error:
            raise refusal(error) from error
        if actual == digest:
            self.learn(digest, length)
            return True
        self.condemn(digest, file, size=size, found=found)
        return False

    def condemn(self, digest: Digest, file: BinaryIO, *, size: int, found: str) -> None:
        """Put a file aside that is not what its digest names.

        Raises: StorageFull, StorageBroken.
        """
        self._sizes.pop(digest.hex, None)
        self.quarantine.put(digest, file, size=size, found=found)

    def _is_announced(self, digest: Digest, size: int) -> bool:
        """Whether index and manifests know this length, and none of them another one."""
        try:
            row = self.index.entry(digest)
            known = {row.size} if row else set[int]()
            for parent in self.index.naming(digest)[:_NAMING]:
                known |= self._sizes_in(parent, digest)
        except DatastoreError:
            return False
        return known == {size}

    def _sizes_in(self, parent: Digest, digest: Digest) -> set[int]:
        """Return how long a manifest says that a part of it is."""
        try:
            names = parse(self.storage.read(layout.blob(parent), LARGEST)).names
        except (NotFound, InvalidManifest):
            return set()
        return {each.size for each in names if each.digest == digest}


def digest_of(file: BinaryIO, algorithm: str) -> tuple[Digest, int]:
    """Read an open file from its start, and leave it there; return its digest and its length.

    Raises: OSError.
    """
    hasher, length = hashlib.new(algorithm), 0
    file.seek(0)
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
        length += len(chunk)
    file.seek(0)
    return Digest(algorithm, hasher.hexdigest()), length
