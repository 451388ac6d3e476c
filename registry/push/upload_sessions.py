"""Uploads that have not ended: a file each on local disk, so that any worker goes on with any.

The file's name says which upload of which repository it is, its length how far that has come, and
its lock that a request writes to it now. A worker that dies, or a client that leaves, loses
nothing that has come in.
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
from entrepot.registry.errors import ChunkMisplaced, TooManyUploads, UploadUnknown
from entrepot.registry.push import hashes
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.server.fileslice import FileSlice

if TYPE_CHECKING:
    from hashlib import _Hash


class Body(Protocol):
    """Bytes that come in: `length` of them, None where the client has not said."""

    @property
    def length(self) -> int | None:
        """Return how many bytes there will be."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield them, once. Raises: BodyBroken when they end too early."""
        ...


_TAG = 8  # hexadecimal digits at the end of an identity
_UUID = 36
_WORD = layout.upload_digest("")
# Where there are too many, those that stand still so long make way, in s.
_EMPTY_S = 60.0
_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Unfinished uploads: `most` in all, `each` of one owner; `reached` gets told of a refusal."""

    most: int = 1000
    each: int = 500
    reached: Callable[[], None] = lambda: None


def identity(owner: str) -> str:
    """Return a new upload's identity: a random UUID whose last digits stand for its owner."""
    random = str(uuid.uuid4())
    return f"{random[:-_TAG]}{_tag(owner)}"


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """Sees that there is a place for one more upload in *folder*."""

    folder: Path
    reservations: Reservations
    limits: UploadLimits

    def admit(self, owner: str) -> None:
        """Let one more upload of an owner begin. Raises: TooManyUploads.

        Uploads that stand still make way: empty ones after a minute, others after an hour; of the
        owner, where those are too many. Workers look at the same time: a few more may begin.
        """
        names, tag = list(self._names()), _tag(owner)
        own = [each for each in names if each[_UUID - _TAG : _UUID] == tag]
        for found, most in ((own, self.limits.each), (names, self.limits.most)):
            if len(found) >= most and not self._make_way(found):
                self.limits.reached()
                raise TooManyUploads(f"{len(found)} uploads are not ended; end or cancel some")

    def _names(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            yield from (each.name for each in entries if not each.name.endswith(_WORD))

    def _make_way(self, names: list[str]) -> bool:
        """Remove uploads that stand still; False when there are none."""
        now, is_one_removed = time.time(), False
        for name in names:
            path = self.folder / name
            with suppress(OSError, DatastoreError):
                stat = path.stat()
                if now - stat.st_mtime > (_IDLE_S if stat.st_size else _EMPTY_S):
                    is_one_removed |= self._remove(path, stat.st_mtime)
        return is_one_removed

    def _remove(self, path: Path, modified: float) -> bool:
        held = try_lock_present(path)
        if held is None:
            return False  # a request writes to it
        with held:
            if os.fstat(held.fd).st_mtime != modified:
                return False
            path.with_name(layout.upload_digest(path.name)).unlink(missing_ok=True)
            held.unlink()
            self.reservations.release(layout.upload_reservation(path.name))
        return True


def _tag(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:_TAG]


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:\.(sha512))?", re.ASCII)
_USUAL = "sha256"
_PATIENCE_S = 2.0  # for the last request's end: its client came back before it was missed
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Sessions:
    """The uploads of one appliance, in *folder*."""

    folder: Path
    reservations: Reservations
    hashes: Hashes
    limits: UploadLimits = field(default_factory=UploadLimits)

    def begin(self, name: Repository, algorithm: str = _USUAL, *, owner: str = "") -> str:
        """Begin an upload of an owner and return its identity, which a URL may hold.

        Raises: TooManyUploads, StorageFull, StorageBroken.
        """
        UploadBounds(self.folder, self.reservations, self.limits).admit(owner)
        suffix = "" if algorithm == _USUAL else f".{algorithm}"
        number = f"{identity(owner)}{suffix}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path(name, number), os.O_CREAT | os.O_EXCL, 0o644))
        except OSError as error:
            raise storage_error(error) from error
        return number

    def offset(self, name: Repository, number: str) -> int:
        """Return how many bytes of an upload have come in. Raises: UploadUnknown."""
        try:
            return self._path(name, number).stat().st_size
        except FileNotFoundError:
            raise _unknown(name, number) from None

    @contextmanager
    def open(self, name: Repository, number: str) -> Iterator[Session]:
        """Go on with an upload, alone. Raises: UploadUnknown; ChunkMisplaced while another does."""
        path = self._path(name, number)
        deadline = time.monotonic() + _PATIENCE_S
        while (held := _locked(path, name, number)) is None:
            if time.monotonic() > deadline:
                message = "another request writes to this upload"
                raise ChunkMisplaced(message, self.offset(name, number))
            time.sleep(_POLL_S)
        with held:
            yield Session(held, _algorithm(number), self.reservations, self.hashes)

    def _path(self, name: Repository, number: str) -> Path:
        """Return an upload's file. Raises: UploadUnknown for what cannot be an identity."""
        if _ID.fullmatch(number) is None:
            raise _unknown(name, number)
        return self.folder / layout.upload(name, number)


class Session:
    """An upload that one request goes on with: `offset` bytes of it are here."""

    def __init__(
        self, held: LockedFile, algorithm: str, reservations: Reservations, running: Hashes
    ) -> None:
        self.path = held.path
        self.offset = os.fstat(held.fd).st_size
        fcntl.fcntl(held.fd, fcntl.F_SETFL, os.O_APPEND)
        self._held = held
        self._algorithm = algorithm
        self._reservations = reservations
        self._hashes = running
        self.promise = layout.upload_reservation(held.path.name)
        self._reserved = 0
        self._is_over = False

    def fill(self, body: Body) -> None:
        """Append a body; of one that breaks, what has come in stays.

        Raises: NoRoom, StorageFull, ContentDamaged, and nothing stays; RoomAwaited, BodyBroken,
        StorageBroken.
        """
        hasher = self._hashes.take(self.path, self._algorithm, self.offset)
        try:
            self._take_in(body, hasher)
        except (OutOfSpace, StorageFull, ContentDamaged):
            self.discard()
            raise
        finally:
            self._leave_word(hasher)

    def _take_in(self, body: Body, hasher: _Hash | None) -> None:
        if body.length:
            self._reserve(self.offset + body.length)
        for chunk in body.chunks():
            self._grow(len(chunk))
            self._append(chunk)
            if hasher:
                hasher.update(chunk)

    def _leave_word(self, hasher: _Hash | None) -> None:
        """Keep for the next request what this one knows, if there may be one."""
        if self._is_over:
            return
        self._reservations.settle(self.promise, self.offset)
        self._forget(layout.upload_size)
        if hasher:
            self._hashes.keep(self.path, hasher, self.offset)
            digest = Digest(self._algorithm, hasher.hexdigest())
            hashes.write(self._beside(layout.upload_digest), digest, self.offset)

    def digest(self, algorithm: str) -> Digest:
        """Return what has come in, hashed."""
        known = hashes.read(self._beside(layout.upload_digest), self.offset)
        if known and known.algorithm == algorithm:
            return known
        hasher = Digest(algorithm, "").hasher()
        for chunk in FileSlice(self._held.fd, 0, self.offset).chunks():
            hasher.update(chunk)
        return Digest(algorithm, hasher.hexdigest())

    def discard(self) -> None:
        """Remove all of it that is not a blob by now, and give its room back.

        Where the disk refuses, the file stays with its reservation, for the cleaner.
        """
        self._is_over = True
        self._hashes.forget(self.path)
        self._forget(layout.upload_digest)
        self._forget(layout.upload_size)
        with suppress(DatastoreError):
            self._held.unlink()
            self._reservations.release(self.promise)

    def _beside(self, named: Callable[[str], str]) -> Path:
        return self.path.with_name(named(self.path.name))

    def _forget(self, named: Callable[[str], str]) -> None:
        with suppress(OSError):
            self._beside(named).unlink(missing_ok=True)

    def _grow(self, length: int) -> None:
        """Reserve room for *length* bytes more, in steps; near the limit, only for those."""
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
        """Leave on disk what was promised: the index may be lost while a long body comes in."""
        with suppress(OSError):  # then a lost index knows of a part of it only
            self._beside(layout.upload_size).write_text(str(size))

    def _append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            length = os.fstat(self._held.fd).st_size
            if length != self.offset:
                message = f"the upload's file has {length} bytes, not {self.offset}"
                raise ContentDamaged(message)
            while view:
                written = os.pwrite(self._held.fd, view, self.offset)  # appends: O_APPEND
                view = view[written:]
                self.offset += written
        except OSError as error:
            refused = storage_error(error)
            if isinstance(refused, StorageFull):  # the cleaner may make room for the next try
                self._reservations.refused(self.offset + len(view))
            raise refused from error


def _locked(path: Path, name: Repository, number: str) -> LockedFile | None:
    try:
        return try_lock_present(path)
    except NotFound:
        raise _unknown(name, number) from None


def _algorithm(number: str) -> str:
    match = _ID.fullmatch(number)
    return (match and match[1]) or _USUAL


def _unknown(name: Repository, number: str) -> UploadUnknown:
    return UploadUnknown(f"{name} has no upload {number[:64]}")
