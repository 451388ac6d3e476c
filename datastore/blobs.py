"""Content by digest: what is stored here was verified here, whatever the driver.

With an `Integrity`, what became damaged since is never read: it counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from io import UnsupportedOperation
from pathlib import Path
from typing import BinaryIO

from entrepot.datastore import layout
from entrepot.datastore.errors import (
    ContentDamaged,
    DatastoreError,
    DigestMismatch,
    InvalidManifest,
    NotFound,
    StorageBroken,
    StorageFull,
    refusal,
)
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.manifest import LARGEST, parse
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat, Storage
from entrepot.datastore.unverified import UnverifiedMarks

LARGEST_READ = 4 * 1024 * 1024
"""Bytes that are read into memory at once: what the largest manifest may have."""
_MOST_PROVEN = 64
_LONGEST_PROVEN = 16 * 1024
"""How many short blobs are kept as they were hashed, and the bytes of the longest: 1 MB at most."""
_CHUNK = 1024 * 1024
_MOST_SIZES = 32 * 1024
_NAMING = 4
REREAD = 4 * 1024 * 1024
"""Bytes up to which a file is read once more before it is stored, and not only after."""


class BlobStore:
    """Every blob and manifest; without *integrity*, as they lie on the disk."""

    def __init__(self, storage: Storage, integrity: Integrity | None = None) -> None:
        self._storage = storage
        self._integrity = integrity
        self._proven: dict[Digest, bytes] = {}

    def stat(self, digest: Digest) -> Stat | None:
        """Return size and time of a blob; None when it is absent."""
        found = self._storage.stat(layout.blob(digest))
        if found is None or self._integrity is None or self._integrity.is_known(digest, found.size):
            return found
        try:
            self.open(digest).close()
        except NotFound:
            return None
        return self._storage.stat(layout.blob(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob. Raises: NotFound."""
        return self.open_sized(digest)[0]

    def open_sized(self, digest: Digest) -> tuple[BinaryIO, int]:
        """Open a blob, and return its length in bytes. Raises: NotFound."""
        file = self._storage.open(layout.blob(digest))
        try:
            size = _size(file)
            if self._integrity is None or self._integrity.may_send(digest, file, size):
                return file, size
        except OSError as error:
            file.close()
            raise refusal(error) from error
        except BaseException:
            file.close()
            raise
        file.close()
        raise NotFound(layout.blob(digest))

    def read(self, digest: Digest, most: int = LARGEST_READ) -> bytes:
        """Return a small blob, such as a manifest: one of at most *most* bytes.

        A client may ask for any layer as a manifest, so a longer one is not read at all. Raises:
        NotFound, also when the blob is longer, or damaged.
        """
        content = self._storage.read(layout.blob(digest), most)
        if self._integrity is None or self._proven.get(digest) == content:
            return content
        if Digest.of(content, digest.algorithm) == digest:
            self._remember(digest, content)
            return content
        with self._storage.open(layout.blob(digest)) as file:
            if self._integrity.verify(digest, file, _size(file), found="read"):
                return file.read(most)  # it was replaced between the two looks
        raise NotFound(layout.blob(digest))

    def _remember(self, digest: Digest, content: bytes) -> None:
        """Keep a short blob that was hashed. PERF: to compare it costs a tenth of hashing it."""
        if len(content) <= _LONGEST_PROVEN:
            if len(self._proven) >= _MOST_PROVEN:
                self._proven.clear()
            self._proven[digest] = content

    def write(self, digest: Digest, content: bytes) -> None:
        """Store a small blob. Raises: DigestMismatch."""
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(digest, actual)
        self._storage.write(layout.blob(digest), content)
        if self._integrity:
            self._integrity.remember_size(digest, len(content))

    def adopt(
        self, path: Path, digest: Digest, *, verified: Digest | None = None, size: int | None = None
    ) -> None:
        """Make a finished local file the blob, in place of any other; *path* is gone after.

        *verified* is the digest that the caller computed while it wrote *size* bytes; without it
        the file is read. What was computed says nothing of the file: its length is compared, a
        short one is read once more, and a long one is marked to be read soon.
        Raises: DigestMismatch, ContentDamaged, and *path* stays.
        """
        found = _file_size(path)
        if verified is None:
            actual = digest_of_file(path, digest.algorithm)
            if actual != digest:
                raise DigestMismatch(digest, actual)
        elif verified != digest:
            raise DigestMismatch(digest, verified)
        elif not _is_as_written(path, digest, found, size):
            raise ContentDamaged(f"the file of {digest} is not what was written to it")
        if self._integrity:
            if verified is not None and found > REREAD:
                self._mark(path, digest)
            self._integrity.remember_size(digest, found)
        self._storage.adopt(path, layout.blob(digest))

    def _mark(self, path: Path, digest: Digest) -> None:
        """Have a file read once more soon; where no mark can be made, read it now."""
        assert self._integrity is not None  # noqa: S101 - only then there are marks
        try:
            self._integrity.unverified.add(digest)
        except (StorageFull, StorageBroken) as error:
            if digest_of_file(path, digest.algorithm) != digest:
                raise ContentDamaged(f"the file of {digest} is not what was written") from error

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; False when there was none. Readers that hold it open go on."""
        return self._storage.delete(layout.blob(digest))


def digest_of_file(path: Path, algorithm: str) -> Digest:
    """Read a whole local file and address it. Raises: NotFound, StorageFull, StorageBroken."""
    try:
        with path.open("rb", buffering=0) as file:
            return digest_of(file, algorithm)[0]
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise refusal(error) from error


def _is_as_written(path: Path, digest: Digest, found: int, size: int | None) -> bool:
    """Whether a file has the length that was written, and, a short one, the bytes."""
    if size is not None and found != size:
        return False
    return found > REREAD or digest_of_file(path, digest.algorithm) == digest


def _size(file: BinaryIO) -> int:
    """Return the length of an open file, in bytes. Raises: OSError."""
    try:
        return os.fstat(file.fileno()).st_size
    except UnsupportedOperation:  # a driver without files
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return size


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise refusal(error) from error


@dataclass(frozen=True, slots=True)
class Integrity:
    """What one process knows of its stored content; shared by its threads."""

    storage: Storage
    index: AccessIndex
    quarantine: Quarantine
    unverified: UnverifiedMarks
    # PERF: by the digest's hex; the digest itself is hashed by code in Python. The algorithms
    # differ in its length, so it names one digest.
    _sizes: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_known(self, digest: Digest, size: int) -> bool:
        """Whether content of this digest is known to have *size* bytes."""
        return self._sizes.get(digest.hex) == size

    def remember_size(self, digest: Digest, size: int) -> None:
        """Remember how long verified content is, in bytes."""
        sizes = self._sizes
        sizes[digest.hex] = size
        while len(sizes) > _MOST_SIZES:
            try:
                sizes.pop(next(iter(sizes)), None)
            except (RuntimeError, StopIteration):  # another thread was quicker
                return

    def may_send(self, digest: Digest, file: BinaryIO, size: int) -> bool:
        """Whether an open file of *size* bytes may be sent; one that may not is put aside.

        Raises: StorageFull, StorageBroken.
        """
        if self.is_known(digest, size):
            return True
        if self._is_announced(digest, size):
            self.remember_size(digest, size)
            return True
        with self._lock:  # one at a time: several clients ask for the same
            return self.is_known(digest, size) or self.verify(digest, file, size, found="open")

    def verify(self, digest: Digest, file: BinaryIO, size: int, *, found: str) -> bool:
        """Hash an open file of *size* bytes; one that is wrong is put aside.

        Raises: StorageFull, StorageBroken.
        """
        try:
            actual, length = digest_of(file, digest.algorithm)
        except OSError as error:
            raise refusal(error) from error
        if actual == digest:
            self.remember_size(digest, length)
            return True
        self.quarantine_file(digest, file, size=size, found=found)
        return False

    def quarantine_file(self, digest: Digest, file: BinaryIO, *, size: int, found: str) -> None:
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
            for parent in self.index.parents(digest)[:_NAMING]:
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
