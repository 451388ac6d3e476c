"""Store content under its digest, and only if the bytes match the digest.

An `Integrity` detects files that changed after they were stored. Each time a file is opened, its
length is compared with the expected length. If there is no expected length, or if the lengths
differ, the file is hashed, and only the hash decides whether it is damaged. A damaged file is moved
to the quarantine and counts as absent.

The right length of a blob never changes. A process learns this length from a verification, from the
index, or from the manifests that list the digest, and then remembers it. So a cache hit only
compares two numbers.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
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
    storage_error,
)
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.manifest import LARGEST, parse
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Sending, Stat, Storage, as_sending, descriptor_of, is_remote
from entrepot.datastore.unverified import UnverifiedMarks

LARGEST_READ = 4 * 1024 * 1024
"""A blob of at most this many bytes, the size of the largest manifest, can be read into memory."""
_MAX_HASHED = 64
_LONGEST_HASHED = 16 * 1024
"""At most 64 hashed blobs of at most 16 KiB each stay in memory: 1 MB in total."""
_CHUNK = 1024 * 1024
_MOST_SIZES = 32 * 1024
_NAMING = 4
REREAD = 4 * 1024 * 1024
"""A file of at most this many bytes is read back and hashed before it is stored.

A larger file is stored first, and the cleaner reads and hashes it soon afterwards.
"""


class BlobStore:
    """A `BlobStore` stores the bytes of all blobs and manifests.

    If *integrity* is None, files are opened and read without a check of their length or hash.
    """

    def __init__(self, storage: Storage, integrity: Integrity | None = None) -> None:
        self._storage = storage
        self._remote = as_sending(storage)
        self._integrity = integrity
        self._hashed: dict[Digest, bytes] = {}

    def stat(self, digest: Digest) -> Stat | None:
        """Return the size and the time of a blob; None if the blob is absent or damaged."""
        found = self._storage.stat(layout.blob(digest))
        if found is None or self._integrity is None or self._integrity.is_known(digest, found.size):
            return found
        try:
            self.open(digest).close()
        except NotFound:
            return None
        return self._storage.stat(layout.blob(digest))

    def intact_size(self, digest: Digest) -> int | None:
        """Return the length of a blob in bytes without opening it.

        Return None if the blob is absent, or if its length is not known to be right.
        """
        found = self._storage.stat(layout.blob(digest))
        if found is None or self._integrity is None:
            return None
        return found.size if self._integrity.has_expected_size(digest, found.size) else None

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
            raise storage_error(error) from error
        except BaseException:
            file.close()
            raise
        file.close()
        raise NotFound(layout.blob(digest))

    def open_verified(self, digest: Digest, size: int) -> BinaryIO | None:
        """Open a blob if it still has the *size* in bytes that was verified; else return None.

        The method hashes nothing. Raises: NotFound.
        """
        file = self._storage.open(layout.blob(digest))
        try:
            if _size(file) == size:
                return file
        except OSError as error:
            file.close()
            raise storage_error(error) from error
        file.close()
        return None

    def read(self, digest: Digest, max_bytes: int = LARGEST_READ) -> bytes:
        """Return a small blob, such as a manifest, of at most *max_bytes* bytes.

        A client can request any layer as if it were a manifest. Therefore the driver reads at most
        the first 64 KiB of a longer blob. Raises: NotFound, also if the blob is longer or damaged.
        """
        content = self._storage.read(layout.blob(digest), max_bytes)
        if self._integrity is None or self._hashed.get(digest) == content:
            return content
        if Digest.of(content, digest.algorithm) == digest:
            self._remember(digest, content)
            return content
        with self._storage.open(layout.blob(digest)) as file:
            if self._integrity.verify(digest, file, _size(file), found="read"):
                # The first read returned wrong bytes. Since then another process has replaced the
                # file, and the new file is right.
                return file.read(max_bytes)
        raise NotFound(layout.blob(digest))

    def _remember(self, digest: Digest, content: bytes) -> None:
        """Remember the bytes of a short blob that were just hashed.

        PERF: a later read compares the bytes that it gets with the remembered bytes, which takes a
        tenth of the time of a hash.
        """
        if len(content) <= _LONGEST_HASHED:
            if len(self._hashed) >= _MAX_HASHED:
                self._hashed.clear()
            self._hashed[digest] = content

    def write(self, digest: Digest, content: bytes) -> None:
        """Store a small blob. Raises: DigestMismatch."""
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(digest, actual)
        self._storage.write(layout.blob(digest), content)
        if self._integrity:
            self._integrity.remember_size(digest, len(content))

    @property
    def is_remote(self) -> bool:
        """Return whether the storage is reached over a network, so that a commit can take long."""
        return self._remote is not None

    def sending(self, path: Path, digest: Digest, size: int | None = None) -> Sending | None:
        """Return a `Sending`, which sends the file *path* to a remote storage while the file grows.

        Return None if the storage is not remote. *size* is the expected length of the file in
        bytes, or None if it is unknown.
        """
        if self._remote is None:
            return None
        return self._remote.begin_file(path, layout.blob(digest), digest, size)

    def commit_file(
        self,
        path: Path,
        digest: Digest,
        *,
        verified: Digest | None = None,
        size: int | None = None,
        sending: Sending | None = None,
    ) -> None:
        """Move a finished local file into the store; replace an older blob of the digest.

        *verified* is the digest that the caller computed while it wrote *size* bytes to the file.
        If *verified* is None, this method reads and hashes the file.

        A digest that was computed in memory does not show which bytes the disk has stored.
        Therefore the length of the file is compared with *size*. A short file is read from the disk
        and hashed now. A long file is marked, so that the cleaner reads and hashes it soon. A file
        for a remote storage is neither read nor marked, because a `Sending` hashes the bytes that
        it sends. *sending* is the `Sending` that may have sent parts of the file already.

        Raises: DigestMismatch, ContentDamaged. After an error, the file is still at *path*.
        """
        found = _file_size(path)
        if verified is None:
            actual = digest_of_file(path, digest.algorithm)
            if actual != digest:
                raise DigestMismatch(digest, actual)
        elif verified != digest:
            raise DigestMismatch(digest, verified)
        elif not self._is_as_written(path, digest, found, size):
            raise ContentDamaged(
                f"the file of {digest} does not contain the bytes that were written to it"
            )
        sending = sending or self.sending(path, digest, found)
        if sending is not None:
            sending.commit(found)
        elif self._integrity and verified is not None and found > REREAD:
            self._mark(path, digest)
        if self._integrity:
            self._integrity.remember_size(digest, found)
        if sending is None:
            self._storage.commit_file(path, layout.blob(digest))

    def _is_as_written(self, path: Path, digest: Digest, found: int, size: int | None) -> bool:
        """Return whether a file has *size* bytes and, if it is hashed here, matches *digest*.

        A file is hashed here if the storage is local and the file has at most REREAD bytes.
        """
        if size is not None and found != size:
            return False
        is_read_later = self.is_remote or found > REREAD
        return is_read_later or digest_of_file(path, digest.algorithm) == digest

    def _mark(self, path: Path, digest: Digest) -> None:
        """Mark a file, so that the cleaner reads it soon; if no mark can be written, read it now.

        Raises: ContentDamaged.
        """
        assert self._integrity is not None  # noqa: S101 - commit_file, the only caller, checks this
        try:
            self._integrity.unverified.add(digest)
        except (StorageFull, StorageBroken) as error:
            try:
                _reread(path, digest)
            except ContentDamaged as damaged:
                raise damaged from error

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; return False if the blob was absent.

        A process that has the blob open can continue to read it.
        """
        return self._storage.delete(layout.blob(digest))


def _reread(path: Path, digest: Digest) -> None:
    """Compare the digest of a file with *digest*. Raises: ContentDamaged if it differs."""
    if digest_of_file(path, digest.algorithm) != digest:
        raise ContentDamaged(f"the file of {digest} does not contain the bytes that were written")


def digest_of_file(path: Path, algorithm: str) -> Digest:
    """Hash a local file. Raises: NotFound, StorageFull, StorageBroken."""
    try:
        with path.open("rb", buffering=0) as file:
            return digest_of(file, algorithm)[0]
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise storage_error(error) from error


def _size(file: BinaryIO) -> int:
    """Return the length of an open file, in bytes. Raises: OSError."""
    descriptor = descriptor_of(file)
    if descriptor is not None:
        return os.fstat(descriptor).st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise NotFound(str(path)) from error
    except OSError as error:
        raise storage_error(error) from error


@dataclass(frozen=True, slots=True)
class Integrity:
    """An `Integrity` remembers the right lengths of content, for all threads of one process."""

    storage: Storage
    index: AccessIndex
    quarantine: Quarantine
    unverified: UnverifiedMarks
    # PERF: the key is the digest's hex, because Digest.__hash__ is slow Python code. The hex is
    # enough to identify a digest, because its length is different for each algorithm.
    _sizes: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_remote: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_is_remote", is_remote(self.storage))

    def _is_marked(self, digest: Digest) -> bool:
        """Return whether content in a remote storage is marked as damaged."""
        return self._is_remote and self.quarantine.is_marked(digest)

    def is_known(self, digest: Digest, size: int) -> bool:
        """Return whether this process remembers *size* (bytes) as the right length of a digest."""
        return self._sizes.get(digest.hex) == size and not self._is_marked(digest)

    def remember_size(self, digest: Digest, size: int) -> None:
        """Remember the length of verified content, in bytes."""
        sizes = self._sizes
        sizes[digest.hex] = size
        while len(sizes) > _MOST_SIZES:
            try:
                sizes.pop(next(iter(sizes)), None)
            except (RuntimeError, StopIteration):  # Another thread removed the entry first.
                return

    def has_expected_size(self, digest: Digest, size: int) -> bool:
        """Return whether *size* is the right length of content, without opening the file.

        The right length is read from this process's memory, the index or manifests.
        """
        if self.is_known(digest, size):
            return True
        if not self._is_marked(digest) and self._is_expected_size(digest, size):
            self.remember_size(digest, size)
            return True
        return False

    def may_send(self, digest: Digest, file: BinaryIO, size: int) -> bool:
        """Return whether an open file of *size* bytes is intact; move a damaged file to quarantine.

        Raises: StorageFull, StorageBroken.
        """
        if self.has_expected_size(digest, size):
            return True
        if self._is_marked(digest):
            return False
        # If several clients request one digest, the lock makes only one thread hash the file.
        with self._lock:
            return self.is_known(digest, size) or self.verify(digest, file, size, found="open")

    def verify(self, digest: Digest, file: BinaryIO, size: int, *, found: str) -> bool:
        """Hash an open file of *size* bytes, and return whether it has the digest.

        If the digest differs, move the file to quarantine. *found* names the operation that found
        the damage. Raises: StorageFull, StorageBroken.
        """
        try:
            actual, length = digest_of(file, digest.algorithm)
        except OSError as error:
            raise storage_error(error) from error
        if actual == digest:
            self.remember_size(digest, length)
            return True
        self.quarantine_file(digest, file, size=size, found=found)
        return False

    def quarantine_file(self, digest: Digest, file: BinaryIO, *, size: int, found: str) -> None:
        """Move a file to the quarantine because its content does not match its digest.

        Raises: StorageFull, StorageBroken.
        """
        self._sizes.pop(digest.hex, None)
        self.quarantine.put(digest, file, size=size, found=found)

    def _is_expected_size(self, digest: Digest, size: int) -> bool:
        """Return whether the index and manifests state the length *size* and no other length."""
        try:
            row = self.index.entry(digest)
            known = {row.size} if row else set[int]()
            for parent in self.index.parents(digest)[:_NAMING]:
                known |= self._sizes_in(parent, digest)
        except DatastoreError:
            return False
        return known == {size}

    def _sizes_in(self, parent: Digest, digest: Digest) -> set[int]:
        """Return the lengths that the manifest *parent* states for its part *digest*."""
        try:
            names = parse(self.storage.read(layout.blob(parent), LARGEST)).descriptors
        except (NotFound, InvalidManifest):
            return set()
        return {each.size for each in names if each.digest == digest}


def digest_of(file: BinaryIO, algorithm: str) -> tuple[Digest, int]:
    """Hash an open file from its start and rewind it; return its digest and its length.

    Raises: OSError.
    """
    hasher, length = hashlib.new(algorithm), 0
    file.seek(0)
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
        length += len(chunk)
    file.seek(0)
    return Digest(algorithm, hasher.hexdigest()), length
