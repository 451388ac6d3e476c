"""Define the Storage protocol: bytes under keys.

A driver only stores bytes: it neither verifies content nor decides what is stored.

A driver of storage need not have files. Features that only a driver with files offers are optional,
and only the functions of this module query these features: the descriptor of an open value
(`descriptor_of`), and the time of a value (`TimedStorage`, `as_timed`, `time_of`, `set_time`). Free
space of a disk (`datastore.disk_space`) and locks (`datastore.locks`) belong to local folders,
never to a storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import UnsupportedOperation
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from entrepot.datastore.refs import Digest


@dataclass(frozen=True, slots=True)
class Stat:
    """A `Stat` describes one value: its key, and its `size` in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class TimedStat(Stat):
    """A `TimedStat` also has the time at which the value last changed (s, UTC epoch)."""

    modified: float


class Storage(Protocol):
    """A `Storage` has bytes under slash-separated keys, which `datastore.layout` creates.

    Every method of a storage may be repeated. Several processes use one storage at once. Each
    method raises: StorageFull, StorageBroken; and NotFound where its docstring states it.
    """

    def stat(self, key: str) -> Stat | None:
        """Return key and size of a value; None if the value is absent."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading; the file is seekable. Raises: NotFound."""
        ...

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a small value.

        Raises: NotFound, also if the value has more than *max_bytes* (None: no limit). The driver
        reads no more than *max_bytes* bytes.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set a small value atomically: readers see the old value or the new value."""
        ...

    def commit_file(self, path: Path, key: str) -> None:
        """Move a finished local file into the storage, atomically and durably.

        Readers that have *path* open continue to read. Raises: NotFound if *path* is absent.
        """
        ...

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Move a value to another key, replacing the value there, if *file* was opened from it.

        Return False, and change nothing, if the value was replaced since then.
        """
        ...

    def delete(self, key: str) -> bool:
        """Remove a value and the folders that become empty; return False if it was absent."""
        ...

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, sorted; yield no name if the folder is absent."""
        ...

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*, in any order.

        A value that is deleted meanwhile may be yielded or left out.
        """
        ...

    def remove_unfinished(self, key: str, before: float) -> int:
        """Remove unfinished values below *key* that are older than *before* (s, UTC epoch).

        A crash during a write leaves unfinished values; `list` and `walk` never show them. The
        method returns the number of removed values.
        """
        ...


class Sending(Protocol):
    """A `Sending` sends one local file to a storage while another thread appends to the file."""

    def reached(self, length: int) -> None:
        """Permit the sending of the file's first *length* bytes; return without waiting."""
        ...

    def commit(self, size: int) -> None:
        """Move the finished file of *size* bytes into the storage, as `Storage.commit_file` does.

        Raises: ContentDamaged if the bytes of the file do not have the digest; NotFound if the file
        is absent; StorageFull, StorageBroken.
        """
        ...

    def abort(self) -> None:
        """Discard what was sent; do nothing after `commit`. The file stays."""
        ...


class SendingStorage(Storage, Protocol):
    """A storage behind a network, which can receive a file while the file grows.

    To read a value back, all of its bytes must be transferred. Therefore the driver, not its
    caller, verifies the bytes of a file while it sends them, before they become a value.
    """

    def begin_file(
        self, path: Path, key: str, digest: Digest | None = None, size: int | None = None
    ) -> Sending:
        """Return a `Sending` of the file *path*; the file is not read yet.

        The value is written only if its bytes have *digest*. *size* is the expected length of the
        file in bytes; None if it is unknown.
        """
        ...


@runtime_checkable
class TimedStorage(Storage, Protocol):
    """A storage that knows, and can set, when a value last changed, as a disk can."""

    def stat(self, key: str) -> TimedStat | None:
        """Return key, size and time of a value; None if the value is absent."""
        ...

    def walk(self, key: str) -> Iterator[TimedStat]:
        """Yield every value below *key*, in any order."""
        ...

    def touch(self, key: str, at: float) -> None:
        """Set when a value last changed (s, UTC epoch); do nothing if the value is absent.

        Raises: StorageFull, StorageBroken.
        """
        ...


@runtime_checkable
class RemoteStorage(Storage, Protocol):
    """A storage that is reached over a network, and whose values clients may fetch themselves."""

    def look(self, key: str) -> Stat | None:
        """Return key and size of a value as the storage has it now; None if the value is absent.

        The method sends one request, which takes at most two seconds. Raises: StorageBroken.
        """
        ...

    def may_have(self, key: str) -> bool:
        """Return False if this appliance remembers that a value is absent; never send a request."""
        ...

    def is_certain(self, key: str) -> bool:
        """Return whether only this appliance writes the value of a key."""
        ...

    def has_answered(self, within_s: float) -> bool:
        """Return whether a request in the last *within_s* s succeeded, and none has failed since.

        Only the answers to this process count.
        """
        ...


def as_timed(storage: Storage) -> TimedStorage | None:
    """Return *storage* if its values have times, else None."""
    return storage if _has_times(type(storage)) else None  # type: ignore[return-value] # just checked


def time_of(stat: Stat) -> float | None:
    """Return when a value last changed (s, UTC epoch); None if its driver keeps no times."""
    return stat.modified if isinstance(stat, TimedStat) else None


def is_remote(storage: Storage) -> bool:
    """Return whether the values of *storage* are read and written over a network."""
    return getattr(storage, "is_remote", False)


def as_sending(storage: Storage) -> SendingStorage | None:
    """Return *storage* if it is remote, else None."""
    return storage if is_remote(storage) else None  # type: ignore[return-value] # just checked


def report_requests(storage: Storage, report: Callable[..., None]) -> None:
    """Report the requests of this process to a remote storage from now on; do nothing for others.

    *report* takes the name of an event and its fields, and never raises an exception.
    """
    report_to = getattr(storage, "report_to", None)
    if report_to is not None:
        report_to(report)


def set_time(storage: Storage, key: str, at: float) -> None:
    """Set when a value last changed (s, UTC epoch), if the driver can set this time.

    Raises: StorageFull, StorageBroken.
    """
    timed = as_timed(storage)
    if timed is not None:
        timed.touch(key, at)


def may_have(storage: Storage, key: str) -> bool:
    """Return whether a value whose folder was listed is stored.

    No request is sent to a storage that is reached over a network: the value counts as stored
    unless the storage is known not to have it. Raises: StorageFull, StorageBroken.
    """
    if _is_reached_over_a_network(type(storage)):
        return storage.may_have(key)  # type: ignore[attr-defined, no-any-return] # just checked
    return storage.stat(key) is not None


def is_certain(storage: Storage, key: str) -> bool:
    """Return whether only this appliance writes the value of a key."""
    if _is_reached_over_a_network(type(storage)):
        return storage.is_certain(key)  # type: ignore[attr-defined, no-any-return] # just checked
    return True


def descriptor_of(file: BinaryIO) -> int | None:
    """Return the descriptor of an open value; None if the driver has no files.

    The descriptor is for sendfile, fstat and posix_fadvise.
    """
    try:
        return file.fileno()
    except UnsupportedOperation:
        return None


@cache  # PERF: the check of a protocol looks up each of its methods, so its result is cached.
def _is_reached_over_a_network(driver: type) -> bool:
    return issubclass(driver, RemoteStorage)


@cache  # PERF: the check of a protocol looks up each of its methods, so its result is cached.
def _has_times(driver: type) -> bool:
    return issubclass(driver, TimedStorage)
