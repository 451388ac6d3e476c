"""Store each value as one object in a bucket of S3 or in a container of Azure.

The objects have the names that docker distribution gives them, below the same prefix. A bucket has
no times that a client can set, so `ObjectStorage` is not a `TimedStorage`. Index, spool files and
journal are local files in the state directory.

If the bucket is not shared (`storage.shared`), only the appliance that owns it writes to it
(`objects/owner.py`). Each change is recorded in the journal of the bucket (`objects/journal.py`).
The journal also remembers values, so that the owner needs no request to read them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.circuit import NotSent
from entrepot.datastore.drivers.objects.client import (
    Conflict,
    ObjectClient,
    OtherType,
    OutcomeUnknown,
    Rejected,
    repeated,
)
from entrepot.datastore.drivers.objects.file import ObjectFile
from entrepot.datastore.drivers.objects.journal import (
    ABSENT,
    SHORT,
    BucketJournal,
    Change,
    Copy,
    Known,
)
from entrepot.datastore.drivers.objects.kept import KeptCopies
from entrepot.datastore.drivers.objects.requests import Report
from entrepot.datastore.drivers.objects.sending import FileSender
from entrepot.datastore.errors import DatastoreError, NotFound, StorageBroken, storage_error
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat

SHARED_S: Final = 10.0
"""A link or tag that another program can change is remembered for this many seconds."""


class Ownership(Protocol):
    """An `Ownership` finds out whether this appliance owns its bucket."""

    def holds(self) -> bool:
        """Return whether this appliance owns the bucket now; only the owner is allowed to write."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectSending:
    """An `ObjectSending` implements `Sending`: it sends a growing file to *storage*."""

    storage: ObjectStorage
    sender: FileSender
    path: Path
    key: str

    def reached(self, length: int) -> None:
        """Send each complete part of the first *length* bytes, if there is more than one part."""
        self.sender.reached(length)

    def commit(self, size: int) -> None:
        """Complete the object, and delete the file."""
        self.storage.commit_sent(self.sender, self.path, self.key, size)

    def abort(self) -> None:
        """Discard the parts; the file stays."""
        self.sender.abort()


class ObjectStorage:
    """An `ObjectStorage` stores values as objects of one bucket.

    While this appliance does not own the bucket, it writes nothing, and each read of a value sends
    a request.

    If *is_shared* is set, docker distribution writes to the bucket too. A link or tag that docker
    distribution could change is then remembered for 10 s, and the absence of a value is not
    remembered. Blobs and manifests are remembered without a time limit, because they never change.
    """

    is_remote = True

    def __init__(
        self,
        client: ObjectClient,
        journal: BucketJournal,
        owner: Ownership,
        *,
        is_shared: bool = False,
    ) -> None:
        self._client = client
        self._journal = journal
        self._owner = owner
        self._is_shared = is_shared
        self.copies = KeptCopies(journal, client, self.is_certain)

    def stat(self, key: str) -> Stat | None:
        """Return the key and the size of a value; send no request if the journal has them."""
        known = self._known(key)
        if known is not None:
            return None if known.is_absent else Stat(key, known.size)
        copy = self._kept(key)
        if copy is not None and self.is_certain(key):
            return Stat(key, copy.size)
        generation = self._journal.generation(key)
        found = self._client.head(key)
        if found is None and copy is not None:
            return Stat(key, copy.size)
        self._journal.learn(key, Known(found.size, None) if found else ABSENT, generation)
        return found

    def look(self, key: str) -> Stat | None:
        """Return the key and the size that a value has in the bucket now; None if it is absent.

        The method sends one request, which takes at most two seconds and is not repeated.
        """
        if self._journal.kept(key) is not None:
            return None  # The service may still apply an earlier removal of this object.
        generation = self._journal.generation(key)
        found = self._client.look(key)
        known, now = self._journal.known(key), Known(found.size, None) if found else ABSENT
        if known is None or known.size != now.size:
            self._journal.learn(key, now, generation)
        return found

    def has_answered(self, within_s: float) -> bool:
        """Return whether a request of this process succeeded in the last *within_s* seconds.

        Return False if a later request has failed.
        """
        return self._client.has_answered(within_s)

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading; the file has no `fileno()`. Raises: NotFound."""
        known = self._known(key)
        if known is not None and known.is_absent:
            raise NotFound(key)
        if known is not None and known.content is not None:
            return io.BytesIO(known.content)
        is_certain = self.is_certain(key)
        if known is None and is_certain and (copy := self._opened_copy(key)) is not None:
            return copy
        generation = self._journal.generation(key)
        found = self._client.get(key)
        if found is None:
            if not is_certain and (copy := self._opened_copy(key)) is not None:
                return copy
            self._journal.learn(key, ABSENT, generation)
            raise NotFound(key)
        file = self._file(key, found)
        if file.size > SHORT:
            if known is None:
                self._journal.learn(key, Known(file.size, None), generation)
            return cast("BinaryIO", file)
        with file:
            content = _content(file)
        self._journal.learn(key, Known(len(content), content), generation)
        return io.BytesIO(content)

    def _opened_copy(self, key: str) -> BinaryIO | None:
        """Open the local copy of a value; None if there is none.

        A value has a copy while the service may still apply an earlier removal of its key.
        """
        copy = self._kept(key)
        descriptor = self.copies.open(copy) if copy is not None else None
        return None if descriptor is None else os.fdopen(descriptor, "rb")

    def _kept(self, key: str) -> Copy | None:
        return self._journal.kept(key) if self._owner.holds() else None

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a value of at most *max_bytes* bytes. Raises: NotFound."""
        known = self._known(key)
        if known is not None and max_bytes is not None and known.size > max_bytes:
            raise NotFound(key)
        with self.open(key) as file:
            if max_bytes is not None and file.seek(0, io.SEEK_END) > max_bytes:
                raise NotFound(key)
            file.seek(0)
            return _content(file)

    def write(self, key: str, data: bytes) -> None:
        """Set a value; send a second request if the first one fails.

        The service may apply the first request late: after the second one, or even after a later
        write. Therefore values that are written to the key in the next minutes get a local copy, as
        after a removal without a response.
        """
        self._check_owner()
        repeated(lambda: self._write_once(key, data), self._client.requests.repeats)

    def _write_once(self, key: str, data: bytes) -> None:
        with self._journal.changing(key, is_removal=False, keeps_copy=True) as change:
            self._check_owner_at_last(change)
            try:
                if change.needs_copy_until is not None:
                    self.copies.write(change.token, data)
                self._replacing(key, lambda: self._put(change, data))
            except DatastoreError:
                self.copies.remove(change.token)
                raise
            self._settle(change, len(data), data)

    def _put(self, change: Change, data: bytes) -> None:
        try:
            self._client.put_once(change.key, data)
        except (Conflict, NotSent, Rejected):
            raise
        except StorageBroken:
            # After `unanswered`, later values of the key get a local copy. If docker distribution
            # can write to the key too, such a copy could replace a value of docker distribution.
            if self.is_certain(change.key):
                change.unanswered()
            raise

    def begin_file(
        self, path: Path, key: str, digest: Digest | None = None, size: int | None = None
    ) -> ObjectSending:
        """Return an `ObjectSending`, which sends the file *path* to the bucket while it grows.

        If *digest* is given, the bucket gets the object *key* only if the sent bytes have this
        digest. *size* is the expected length of the file in bytes; None if it is unknown.
        """
        return ObjectSending(self, FileSender(self._client, path, key, digest, size), path, key)

    def commit_file(self, path: Path, key: str) -> None:
        """Write the finished file *path* as an object, and delete the file.

        A large file is sent in parts. Raises: NotFound if *path* is absent.
        """
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise NotFound(str(path)) from error
        self.begin_file(path, key).commit(size)

    def commit_sent(self, sender: FileSender, path: Path, key: str, size: int) -> None:
        """Complete the object that *sender* sends, and delete the file *path* of *size* bytes."""
        self._check_owner()
        with self._journal.changing(key, is_removal=False, keeps_copy=True) as change:
            self._check_owner_at_last(change)
            self._replacing(key, lambda: sender.finish(size))
            if change.needs_copy_until is not None:
                self.copies.move(change.token, path)
            self._settle(change, size, sender.content)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from error

    def _settle(self, change: Change, size: int, content: bytes | None = None) -> None:
        if change.needs_copy_until is None:
            change.written(size, content)
        elif (before := change.written_with_copy(size)) is not None:
            self.copies.remove(before)

    def _replacing(self, key: str, send: Callable[[], object]) -> None:
        """Write an object with *send*; first delete an existing object that cannot be replaced.

        If the type of an existing object prevents its replacement (`OtherType`), the object is
        deleted, and *send* is called again.
        """
        try:
            send()
        except OtherType:
            self.delete(key)
            send()

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Copy a value to the key *target* and remove it, if the value still equals *file*."""
        self._check_owner()
        current = self._client.get(key)
        if current is None:
            return False
        with self._file(key, current) as now:
            if not _is_same(file, now):
                return False
        with self._journal.changing(target, is_removal=False) as change:
            self._check_owner_at_last(change)
            self._client.copy(key, target)
            change.written(now.size)
        return self.delete(key)

    def delete(self, key: str) -> bool:
        """Remove a value with one request, which is not sent again after an error.

        If the request gets no response, the service may still apply it up to 15 minutes later. So
        for 16 minutes the key cannot be removed again, and a value that is written to the key also
        gets a local copy.
        """
        self._check_owner()
        if self.stat(key) is None:
            return False
        with self._journal.changing(key, is_removal=True) as change:
            self._check_owner_at_last(change)
            self.copies.forget(key)
            try:
                self._client.delete(key)
            except OutcomeUnknown:
                raise
            except StorageBroken:
                change.not_written()
                raise
            change.removed()
        return True

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, in byte order.

        If the journal of the bucket has the names, no request is sent. Otherwise one request is
        sent for every 1,000 names.
        """
        is_known = self._owner.holds() and (not self._is_shared or _is_own(key))
        names = self._journal.names(key) if is_known else None
        if names is None:
            generation = self._journal.generation(key)
            names = self._client.names(key)
            self._journal.learn_names(key, names, generation)
        yield from names

    def may_have(self, key: str) -> bool:
        """Return False if the journal remembers that a value is absent; never send a request."""
        known = self._known(key)
        return known is None or not known.is_absent

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*, in the byte order of their keys."""
        yield from self._client.walk(key)

    def remove_unfinished(self, key: str, before: float) -> int:  # noqa: ARG002 - in the protocol
        """Remove nothing and return 0: the bucket aborts unfinished multipart uploads.

        On AWS, the operator adds a lifecycle rule for this to the bucket (docs/storage.md).
        """
        return 0

    def report_to(self, report: Report) -> None:
        """Call *report* for each request that this process sends from now on."""
        self._client.report_to(report)

    def _file(self, key: str, first: Any) -> ObjectFile:  # noqa: ANN401 - from obstore
        received = self._client.requests.received
        return ObjectFile(key, first, lambda start: self._client.get(key, start), received)

    def is_certain(self, key: str) -> bool:
        """Return whether this appliance is the only program that writes the value of a key."""
        return not self._is_shared or _is_own(key) or self._is_proxied(key)

    def _is_proxied(self, key: str) -> bool:
        """Return whether a key belongs to a proxied repository, according to the journal.

        Only a proxied repository has an `origin` file, and docker distribution does not write to
        such a repository.
        """
        name = layout.repository_of(key)
        found = self._journal.known(layout.origin(name)) if name else None
        return found is not None and not found.is_absent

    def _known(self, key: str) -> Known | None:
        """Return the journal's row about a value; None if there is no row, or if it may be old."""
        known = self._journal.known(key) if self._owner.holds() else None
        if known is None or self.is_certain(key):
            return known
        if known.is_absent:
            return None
        is_content = key.startswith(f"{layout.BLOBS}/")
        return known if is_content or self._journal.age(known) < SHARED_S else None

    def _check_owner_at_last(self, change: Change) -> None:
        """Check the ownership again: the process may have been suspended since the first check.

        Raises: StorageBroken, after recording that the change was not written.
        """
        try:
            self._check_owner()
        except StorageBroken:
            change.not_written()
            raise

    def _check_owner(self) -> None:
        if not self._owner.holds():
            raise StorageBroken("another appliance owns the bucket, or its owner is not confirmed")


def _is_own(key: str) -> bool:
    """Return whether only Entrepot uses a key or folder, and docker distribution does not."""
    return key == layout.OWN or key.startswith(f"{layout.OWN}/")


def _content(file: io.RawIOBase | BinaryIO) -> bytes:
    try:
        return file.read() or b""
    except OSError as error:
        raise storage_error(error) from error


def _is_same(file: BinaryIO, other: ObjectFile) -> bool:
    """Return whether two open values are equal.

    If *file* is also an object, the entity tags and sizes are compared. If *file* is a local file,
    the bytes are compared, and an object above 64 KiB counts as different.
    """
    if isinstance(file, ObjectFile):
        return (file.entity_tag, file.size) == (other.entity_tag, other.size)
    at = file.tell()
    file.seek(0)
    is_same = other.size <= SHORT and file.read() == _content(other)
    file.seek(at)
    return is_same
