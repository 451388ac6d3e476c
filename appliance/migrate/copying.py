"""Copy one blob or one small value from the source to the target; verify the digest of a blob."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast

from entrepot.appliance.migrate.errors import Interrupted, MigrationStopped
from entrepot.appliance.migrate.stock import Blob
from entrepot.datastore import layout
from entrepot.datastore.errors import (
    DatastoreError,
    IndexUnavailable,
    NotFound,
    StorageBroken,
    StorageFull,
    storage_error,
)
from entrepot.datastore.storage import Storage, as_timed, set_time

_CHUNK: Final = 1024 * 1024
SMALL: Final = 1024 * 1024
"""Values of at most this many bytes are copied in memory; longer values need a temporary file."""

_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
"""A failed request to a bucket is repeated after each of these pauses (in seconds).

A failed access to a disk is not repeated, because the second access would probably fail too.
"""
_MOST_FAILURES: Final = 8

T = TypeVar("T")


class Outcome(Enum):
    """An `Outcome` is the result of copying one blob."""

    COPIED = "copied"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class BlobResult:
    """A `BlobResult` has the blob, the outcome, and the reason if the blob was not copied."""

    blob: Blob
    outcome: Outcome
    why: str = ""


class _Damaged(Exception):  # noqa: N818 - the name states the fact
    """The content of a blob does not match its digest, or is longer than it was when listed."""


class Copier:
    """A `Copier` copies blobs and small values; several threads use it at the same time.

    *scratch* is a folder for temporary files. *moved* is called after each read from the source,
    with the number of bytes. Once *stop* is set, a method that copies a blob or a long value raises
    `Interrupted`.
    """

    def __init__(
        self,
        source: Storage,
        target: Storage,
        scratch: Path,
        stop: threading.Event,
        moved: Callable[[int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._scratch = scratch
        self._stop = stop
        self._moved = moved
        self._aborted = threading.Event()
        self._failures = 0

    def abort(self) -> None:
        """Make the running copies of blobs and long values raise `Interrupted` soon."""
        self._aborted.set()

    def blob(self, blob: Blob) -> BlobResult:
        """Copy a blob, and verify its digest.

        If the source fails, return the failure as the result. Raises: Interrupted; MigrationStopped
        if the target fails, or if the source has failed for eight blobs without a copied blob in
        between.
        """
        try:
            self._copy(blob)
        except NotFound:
            return BlobResult(blob, Outcome.GONE)
        except _Damaged as error:
            return BlobResult(blob, Outcome.DAMAGED, str(error))
        except DatastoreError as error:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise MigrationStopped(f"the source cannot be read: {error}") from error
            return BlobResult(blob, Outcome.UNREADABLE, str(error))
        self._failures = 0
        return BlobResult(blob, Outcome.COPIED)

    def read(self, key: str) -> bytes:
        """Return a small value of the source. Raises: NotFound, StorageBroken, Interrupted."""
        return self._patiently(self._source, lambda: self._source.read(key, SMALL))

    def write(self, key: str, content: bytes, at: float | None, *, is_same: bool) -> bool:
        """Write a small value to the target, and return whether it was written.

        If *is_same* is true, the target has a value of the same length; if that value also has the
        same bytes, only its time is set. *at* (seconds since the UTC epoch) becomes the time of the
        value; None changes no time.

        Raises: MigrationStopped, Interrupted.
        """
        with target_errors():
            if is_same and self._has(key, content):
                changed = False
            else:
                self._patiently(self._target, lambda: self._target.write(key, content))
                changed = True
            self.set_time(key, at)
        return changed

    def long_value(self, key: str, at: float | None) -> None:
        """Copy a value that is longer than `SMALL` and is not a blob, through a temporary file.

        Raises: NotFound, StorageBroken, Interrupted, MigrationStopped.
        """
        with self._temporary_file() as path:
            self._patiently(self._source, lambda: self._spool(key, path, hashlib.sha256()))
            self._commit(path, key)
        self.set_time(key, at)

    def set_time(self, key: str, at: float | None) -> None:
        """Set the time of a value in the target, unless *at* is None.

        If the target's driver does not store times, do nothing.
        """
        if at is not None:
            with target_errors():
                set_time(self._target, key, at)

    # ---- content

    def _copy(self, blob: Blob) -> None:
        key = layout.blob(blob.digest)
        if blob.size <= SMALL:
            content = self._patiently(self._source, lambda: self._content(blob))
            self.write(key, content, blob.used, is_same=False)
            return
        with self._temporary_file() as path:
            self._patiently(self._source, lambda: self._verified_file(blob, path))
            self._commit(path, key)
        self.set_time(key, blob.used)

    def _content(self, blob: Blob) -> bytes:
        """Read a blob, and verify its digest. Raises: _Damaged, NotFound, StorageBroken."""
        hasher, pieces = hashlib.new(blob.digest.algorithm), []
        with self._source.open(layout.blob(blob.digest)) as file:
            for chunk in self._chunks(file, SMALL):
                hasher.update(chunk)
                pieces.append(chunk)
        _compare(blob, hasher.hexdigest())
        return b"".join(pieces)

    def _verified_file(self, blob: Blob, path: Path) -> None:
        hasher = hashlib.new(blob.digest.algorithm)
        self._spool(layout.blob(blob.digest), path, hasher)
        _compare(blob, hasher.hexdigest())

    def _spool(self, key: str, path: Path, hasher: hashlib._Hash) -> None:
        """Copy a value of the source to the local file *path*, and add its bytes to *hasher*."""
        with self._source.open(key) as file, _created(path) as sink:
            for chunk in self._chunks(file):
                hasher.update(chunk)
                _append(sink, chunk)

    def _chunks(self, file: BinaryIO, longest: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an open file. Raises: _Damaged if there are more than *longest*."""
        length = 0
        while chunk := _read(file):
            if self._stop.is_set() or self._aborted.is_set():
                raise Interrupted
            length += len(chunk)
            if longest is not None and length > longest:
                raise _Damaged("the file has more bytes than when it was listed")
            self._moved(len(chunk))
            yield chunk

    def _commit(self, path: Path, key: str) -> None:
        with target_errors():
            self._patiently(self._target, lambda: self._target.commit_file(path, key))

    def _has(self, key: str, content: bytes) -> bool:
        with suppress(NotFound):
            found = self._patiently(self._target, lambda: self._target.read(key, SMALL))
            return found == content
        return False

    # ---- failures

    def _patiently(self, storage: Storage, act: Callable[[], T]) -> T:
        """Call *act*; if it fails and *storage* is a bucket, repeat the call after pauses."""
        for pause in () if as_timed(storage) else _PAUSES_S:
            try:
                return act()
            except StorageBroken:
                if self._stop.wait(pause) or self._aborted.is_set():
                    raise Interrupted from None
        return act()

    @contextmanager
    def _temporary_file(self) -> Iterator[Path]:
        path = self._scratch / f"{threading.get_ident()}"
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def target_errors() -> Iterator[None]:
    """Turn each error of the target in a `with` block into MigrationStopped."""
    try:
        yield
    except StorageFull as error:
        raise MigrationStopped(
            f"the target is full: {error}; free space, then run the command again"
        ) from (error)
    except (StorageBroken, IndexUnavailable) as error:
        raise MigrationStopped(
            f"the target fails: {error}; run the command again to continue"
        ) from error


def _compare(blob: Blob, found: str) -> None:
    if found != blob.digest.hex:
        raise _Damaged(f"its bytes have the digest {blob.digest.algorithm}:{found}")


def _read(file: BinaryIO) -> bytes:
    """Return the next bytes of an open file of the source. Raises: StorageBroken, StorageFull."""
    try:
        return file.read(_CHUNK)
    except OSError as error:
        raise storage_error(error) from error


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """Open a new temporary file. Raises: MigrationStopped."""
    try:
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise _no_temporary_file(error) from error
    with file:
        yield cast("BinaryIO", file)


def _append(file: BinaryIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_temporary_file(error) from error


def _no_temporary_file(error: OSError) -> MigrationStopped:
    """Return the exception for a temporary file that cannot be written."""
    return MigrationStopped(
        f"no temporary file in the state directory of the target: {error.strerror or error};"
        " free space there, then run the command again"
    )
