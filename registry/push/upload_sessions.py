"""Store each unfinished upload in one local file, so any worker can continue any upload.

The name of the file identifies the upload and its repository. The length of the upload's file is
the number of bytes that have arrived. While a request writes to the upload's file, it holds a lock
on the file. If a worker dies or a client disconnects, no byte that has arrived is lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from entrepot.datastore import layout
from entrepot.datastore.budget import STEP
from entrepot.datastore.errors import (
    ContentDamaged,
    DatastoreError,
    NotFound,
    OutOfSpace,
    StorageFull,
    storage_error,
)
from entrepot.datastore.locks import LockedFile, try_lock_present
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.reservations import Reservations
from entrepot.datastore.storage import Sending
from entrepot.registry.errors import ChunkMisplaced, TooManyUploads, UploadUnknown
from entrepot.registry.push import hashes
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.server.fileslice import FileSlice
from entrepot.runtime.polling import poll

if TYPE_CHECKING:
    from hashlib import _Hash


class Body(Protocol):
    """A `Body` is a request's body of `length` bytes (None if the client stated no length)."""

    @property
    def length(self) -> int | None:
        """Return the number of bytes of the body."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of the body once. Raises: BodyBroken if the body ends too early."""
        ...


_TAG = 8  # An upload's ID ends in this many hexadecimal digits of the owner's hash.
_UUID = 36
_NOTES = (layout.upload_digest, layout.upload_size)
_SUFFIXES = tuple(named("") for named in _NOTES)
# If there are too many uploads, uploads that were idle for these times (in seconds) are removed.
# `_EMPTY_S` applies to uploads without any byte, `_IDLE_S` to all other uploads.
_EMPTY_S = 60.0
_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """An `UploadLimits` limits unfinished uploads: `most` in total, `each` per owner.

    `reached` is called for each upload that a limit refuses.
    """

    most: int = 1000
    each: int = 500
    reached: Callable[[], None] = lambda: None


def new_id(owner: str) -> str:
    """Return the ID of a new upload: a random UUID that ends in a hash of the owner."""
    random = str(uuid.uuid4())
    return f"{random[:-_TAG]}{_tag(owner)}"


@dataclass(frozen=True, slots=True)
class UploadAdmission:
    """An `UploadAdmission` enforces the limits on the unfinished uploads in *folder*."""

    folder: Path
    reservations: Reservations
    limits: UploadLimits

    def admit(self, owner: str) -> None:
        """Permit one more upload of an owner. Raises: TooManyUploads.

        If a limit is reached, idle uploads are removed: empty uploads after a minute, others after
        an hour. If only the limit of the owner is reached, only uploads of that owner are removed.
        Workers check the limits without a lock, so a few more uploads than a limit may begin.
        """
        names, tag = list(self._names()), _tag(owner)
        own = [each for each in names if each[_UUID - _TAG : _UUID] == tag]
        for found, most in ((own, self.limits.each), (names, self.limits.most)):
            if len(found) >= most and not self._remove_idle(found):
                self.limits.reached()
                message = f"{len(found)} uploads are unfinished: finish or cancel some"
                raise TooManyUploads(message)

    def _names(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            yield from (each.name for each in entries if not each.name.endswith(_SUFFIXES))

    def _remove_idle(self, names: list[str]) -> bool:
        """Remove idle uploads; return False if no upload was removed."""
        now, is_one_removed = time.time(), False
        for name in names:
            path = self.folder / name
            with suppress(OSError, DatastoreError):
                stat = path.stat()
                if now - stat.st_mtime > (_IDLE_S if stat.st_size else _EMPTY_S):
                    is_one_removed |= self._remove(path, stat.st_mtime)
        return is_one_removed

    def _remove(self, path: Path, modified: float) -> bool:
        lock = try_lock_present(path)
        if lock is None:
            return False  # Another request is writing to the upload.
        with lock:
            if os.fstat(lock.fd).st_mtime != modified:
                return False
            for named in _NOTES:
                path.with_name(named(path.name)).unlink(missing_ok=True)
            lock.unlink()
            self.reservations.release(layout.upload_reservation(path.name))
        return True


def _tag(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:_TAG]


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:\.(sha512))?", re.ASCII)
_DEFAULT_ALGORITHM = "sha256"
# A request waits up to this many seconds for the upload's lock. The earlier request of a client
# that has disconnected holds the lock until the worker notices the disconnection.
_LOCK_WAIT_S = 2.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Sessions:
    """A `Sessions` manages the appliance's unfinished uploads in *folder*."""

    folder: Path
    reservations: Reservations
    hashes: Hashes
    limits: UploadLimits = field(default_factory=UploadLimits)

    def begin(
        self, name: Repository, algorithm: str = _DEFAULT_ALGORITHM, *, owner: str = ""
    ) -> str:
        """Begin an upload for an owner and return the upload's ID, which can be part of a URL.

        Raises: TooManyUploads, StorageFull, StorageBroken.
        """
        UploadAdmission(self.folder, self.reservations, self.limits).admit(owner)
        suffix = "" if algorithm == _DEFAULT_ALGORITHM else f".{algorithm}"
        number = f"{new_id(owner)}{suffix}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path(name, number), os.O_CREAT | os.O_EXCL, 0o644))
        except OSError as error:
            refused = storage_error(error)
            if isinstance(refused, StorageFull):  # The disk may lack free inodes.
                self.reservations.refused(0)
            raise refused from error
        return number

    def offset(self, name: Repository, number: str) -> int:
        """Return how many bytes of an upload have arrived. Raises: UploadUnknown."""
        try:
            return self._path(name, number).stat().st_size
        except FileNotFoundError:
            raise _unknown(name, number) from None

    @contextmanager
    def open(self, name: Repository, number: str) -> Iterator[Session]:
        """Lock an upload so that the caller can continue the upload.

        Raises: UploadUnknown; ChunkMisplaced if another request holds the lock too long.
        """
        path = self._path(name, number)
        lock = poll(lambda: _locked(path, name, number), _LOCK_WAIT_S, _POLL_S)
        if lock is None:
            message = "another request is writing to this upload"
            raise ChunkMisplaced(message, self.offset(name, number))
        with lock:
            session = Session(lock, _algorithm(number), self.reservations, self.hashes)
            try:
                yield session
            finally:
                session.end()

    def _path(self, name: Repository, number: str) -> Path:
        """Return the path of an upload's file.

        Raises: UploadUnknown if *number* is not a valid ID.
        """
        if _ID.fullmatch(number) is None:
            raise _unknown(name, number)
        return self.folder / layout.upload(name, number)


class Session:
    """A `Session` is a locked upload, of which `offset` bytes have arrived."""

    def __init__(
        self, lock: LockedFile, algorithm: str, reservations: Reservations, running: Hashes
    ) -> None:
        self.path = lock.path
        self.offset = os.fstat(lock.fd).st_size
        fcntl.fcntl(lock.fd, fcntl.F_SETFL, os.O_APPEND)
        self._lock = lock
        self._algorithm = algorithm
        self._reservations = reservations
        self._hashes = running
        self.promise = layout.upload_reservation(lock.path.name)
        self._reserved = 0
        self._is_ended = False
        self.sending: Sending | None = None

    def send_to(self, sending: Sending | None) -> None:
        """Let *sending* copy the received bytes, and all later bytes, to a remote storage."""
        self.sending = sending
        if sending is not None:
            sending.reached(self.offset)

    def end(self) -> None:
        """Discard the bytes that this request sent to a remote storage and did not commit."""
        if self.sending is not None:
            self.sending.abort()

    def fill(self, body: Body) -> None:
        """Append a request body to the upload.

        If the body is cut off, the upload keeps the bytes that have arrived.

        Raises: OutOfSpace, StorageFull or ContentDamaged, after which the upload no longer exists.
        Raises: SpaceAwaited, BodyBroken or StorageBroken, after which the client can continue the
        upload.
        """
        hasher = self._hashes.take(self.path, self._algorithm, self.offset)
        try:
            self._append_body(body, hasher)
        except (OutOfSpace, StorageFull, ContentDamaged):
            self.discard()
            raise
        finally:
            self._save_progress(hasher)

    def _append_body(self, body: Body, hasher: _Hash | None) -> None:
        if body.length:
            self._reserve(self.offset + body.length)
        for chunk in body.chunks():
            self._grow(len(chunk))
            self._append(chunk)
            if self.sending is not None:
                self.sending.reached(self.offset)
            if hasher:
                hasher.update(chunk)

    def _save_progress(self, hasher: _Hash | None) -> None:
        """Save the hash, and reduce the reservation to the received bytes.

        Do nothing if the upload has ended.
        """
        if self._is_ended:
            return
        self._reservations.settle(self.promise, self.offset)
        self._forget(layout.upload_size)
        if hasher:
            self._hashes.keep(self.path, hasher, self.offset)
            digest = Digest(self._algorithm, hasher.hexdigest())
            hashes.write(self._beside(layout.upload_digest), digest, self.offset)

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of the bytes of the upload that have arrived."""
        known = hashes.read(self._beside(layout.upload_digest), self.offset)
        if known and known.algorithm == algorithm:
            return known
        hasher = Digest(algorithm, "").hasher()
        for chunk in FileSlice(self._lock.fd, 0, self.offset).chunks():
            hasher.update(chunk)
        return Digest(algorithm, hasher.hexdigest())

    def discard(self) -> None:
        """Remove the upload and its reservation; keep a file that was renamed to a blob.

        If the disk refuses the removal, the file and its reservation remain until the cleaner
        removes them.
        """
        self._is_ended = True
        self._hashes.forget(self.path)
        self._forget(layout.upload_digest)
        self._forget(layout.upload_size)
        with suppress(DatastoreError):
            self._lock.unlink()
            self._reservations.release(self.promise)

    def _beside(self, named: Callable[[str], str]) -> Path:
        return self.path.with_name(named(self.path.name))

    def _forget(self, named: Callable[[str], str]) -> None:
        with suppress(OSError):
            self._beside(named).unlink(missing_ok=True)

    def _grow(self, length: int) -> None:
        """Reserve space for *length* more bytes, in large steps.

        If the cap has no room for a large step, `_grow` reserves space for *length* bytes only.
        """
        needed = self.offset + length
        if needed <= self._reserved:
            return
        if not self._reservations.reserve(self.promise, needed + STEP):
            self._reserve(needed)
        else:
            self._reserved = needed + STEP

    def _reserve(self, size: int) -> None:
        if not self._reservations.reserve(self.promise, size):
            raise self._reservations.error_for(size, max(self._reserved, self.offset))
        self._reserved = size
        if size > self.offset + STEP:
            self._announce(size)

    def _announce(self, size: int) -> None:
        """Write the upload's reservation to a file, which a rebuild of the index reads."""
        # If this file cannot be written, a rebuilt index counts only a part of the reservation.
        with suppress(OSError):
            self._beside(layout.upload_size).write_text(str(size))

    def _append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            length = os.fstat(self._lock.fd).st_size
            if length != self.offset:
                message = f"the upload's file has {length} bytes, not {self.offset}"
                raise ContentDamaged(message)
            while view:
                # The write appends to the file, because the file is open with O_APPEND.
                written = os.pwrite(self._lock.fd, view, self.offset)
                view = view[written:]
                self.offset += written
        except OSError as error:
            refused = storage_error(error)
            # The cleaner is woken to make space, so that a retry of the client can succeed.
            if isinstance(refused, StorageFull):
                self._reservations.refused(self.offset + len(view))
            raise refused from error


def _locked(path: Path, name: Repository, number: str) -> LockedFile | None:
    try:
        return try_lock_present(path)
    except NotFound:
        raise _unknown(name, number) from None


def _algorithm(number: str) -> str:
    match = _ID.fullmatch(number)
    return (match and match[1]) or _DEFAULT_ALGORITHM


def _unknown(name: Repository, number: str) -> UploadUnknown:
    return UploadUnknown(f"{name} has no upload {number[:64]}")
