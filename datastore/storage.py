"""Define the protocol `Storage`, which stores bytes under keys.

A driver does not decide which content is stored. A driver verifies content only while it sends a
file over a network (`SendingStorage`).

A driver does not need to store values in files. Therefore two features are optional: an open value
can have a file descriptor (`descriptor_of`), and a value can have a time (`TimedStorage`,
`as_timed`, `time_of`, `set_time`). Other modules use these features only through the functions of
this module. Free disk space (`datastore.disk_space`) and locks (`datastore.locks`) concern local
folders, and are not part of a storage.
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
    """A `TimedStat` also has the time of the value's last change.

    The time is in seconds since the UTC epoch.
    """

    modified: float


class Storage(Protocol):
    """A `Storage` stores bytes under slash-separated keys, which `datastore.layout` creates.

    A caller can repeat a call of any method without harm. Several processes use one storage at the
    same time. Each method can raise StorageFull and StorageBroken, and NotFound where its docstring
    states this.
    """

    def stat(self, key: str) -> Stat | None:
        """Return the key and the size of a value; None if the value is absent."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading; the file is seekable. Raises: NotFound."""
        ...

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a small value.

        Raises: NotFound, also if the value has more than *max_bytes* bytes (None: no limit). If a
        value is too long, the driver reads at most its first 64 KiB.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set a small value atomically: readers see either the old value or the new value."""
        ...

    def commit_file(self, path: Path, key: str) -> None:
        """Move a finished local file into the storage, atomically and durably.

        Processes that have *path* open can continue to read. Raises: NotFound if *path* is absent.
        """
        ...

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Move a value to the key *target*, and replace the value there.

        *file* was opened from the value. If the value was replaced since then, change nothing and
        return False.
        """
        ...

    def delete(self, key: str) -> bool:
        """Remove a value and the folders that become empty; return False if *key* has no value."""
        ...

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below the folder *key*, sorted; none if there is no folder."""
        ...

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*, in any order.

        If a value is deleted during the walk, the method may or may not yield it.
        """
        ...

    def remove_unfinished(self, key: str, before: float) -> int:
        """Remove unfinished values below *key* that were last written earlier than *before*.

        *before* is in seconds since the UTC epoch. After a crash during a write, unfinished values
        remain; `list` and `walk` never show them. The method returns the number of removed values.
        """
        ...


class Sending(Protocol):
    """A `Sending` sends one local file to a storage while another thread appends to the file."""

    def reached(self, length: int) -> None:
        """Permit the `Sending` to send the file's first *length* bytes; return without waiting."""
        ...

    def commit(self, size: int) -> None:
        """Move the finished file of *size* bytes into the storage, as `Storage.commit_file` does.

        Raises: ContentDamaged if the bytes of the file do not have the expected digest; NotFound if
        the file is absent; StorageFull, StorageBroken.
        """
        ...

    def abort(self) -> None:
        """Discard the bytes that were sent, but not the file; after `commit`, do nothing."""
        ...


class SendingStorage(Storage, Protocol):
    """A storage that is reached over a network, and that can receive a file while the file grows.

    If a caller read a value back to verify its digest, all bytes would be transferred again.
    Therefore the driver verifies the bytes of a file while it sends them, before they become a
    value.
    """

    def begin_file(
        self, path: Path, key: str, digest: Digest | None = None, size: int | None = None
    ) -> Sending:
        """Return a `Sending` of the file *path*, without reading the file.

        The value is written only if its bytes have *digest*. *size* is the expected length of the
        file in bytes; None if it is unknown.
        """
        ...


@runtime_checkable
class TimedStorage(Storage, Protocol):
    """A storage that stores the time of each value's last change; a caller can set this time."""

    def stat(self, key: str) -> TimedStat | None:
        """Return the key, the size and the time of a value; None if the value is absent."""
        ...

    def walk(self, key: str) -> Iterator[TimedStat]:
        """Yield every value below *key*, in any order."""
        ...

    def touch(self, key: str, at: float) -> None:
        """Set the time of a value's last change to *at*; do nothing if the value is absent.

        *at* is in seconds since the UTC epoch. Raises: StorageFull, StorageBroken.
        """
        ...


@runtime_checkable
class RemoteStorage(Storage, Protocol):
    """A storage that is reached over a network.

    The appliance can redirect a client to such a storage. The client then fetches a value directly.
    """

    def look(self, key: str) -> Stat | None:
        """Return the key and the size that a value has now; None if the value is absent.

        The method sends one request, which takes at most two seconds. Raises: StorageBroken.
        """
        ...

    def may_have(self, key: str) -> bool:
        """Return False if this appliance remembers that a value is absent, else True.

        The method sends no request.
        """
        ...

    def is_certain(self, key: str) -> bool:
        """Return whether this appliance is the only program that writes the value of a key."""
        ...

    def has_answered(self, within_s: float) -> bool:
        """Return whether a request of this process succeeded in the last *within_s* seconds.

        Return False if a later request has failed.
        """
        ...


def as_timed(storage: Storage) -> TimedStorage | None:
    """Return *storage* if it stores times of values, else None."""
    return storage if _has_times(type(storage)) else None  # type: ignore[return-value] # just checked


def time_of(stat: Stat) -> float | None:
    """Return the time of a value's last change; None if its driver stores no times.

    The time is in seconds since the UTC epoch.
    """
    return stat.modified if isinstance(stat, TimedStat) else None


def is_remote(storage: Storage) -> bool:
    """Return whether the driver reads and writes the values of *storage* over a network."""
    return getattr(storage, "is_remote", False)


def as_sending(storage: Storage) -> SendingStorage | None:
    """Return *storage* if it is remote, else None."""
    return storage if is_remote(storage) else None  # type: ignore[return-value] # just checked


def report_requests(storage: Storage, report: Callable[..., None]) -> None:
    """Call *report* for each request that this process sends to a remote storage from now on.

    Do nothing if *storage* is not remote. *report* takes the name of an event and its fields, and
    never raises an exception.
    """
    report_to = getattr(storage, "report_to", None)
    if report_to is not None:
        report_to(report)


def set_time(storage: Storage, key: str, at: float) -> None:
    """Set the time of a value's last change to *at*, if the driver can set this time.

    *at* is in seconds since the UTC epoch. Raises: StorageFull, StorageBroken.
    """
    timed = as_timed(storage)
    if timed is not None:
        timed.touch(key, at)


def may_have(storage: Storage, key: str) -> bool:
    """Return whether the storage has a value whose name was in the list of a folder.

    If the storage is remote, send no request, and return True except if this appliance remembers
    that the value is absent. Raises: StorageFull, StorageBroken.
    """
    if _is_reached_over_a_network(type(storage)):
        return storage.may_have(key)  # type: ignore[attr-defined, no-any-return] # just checked
    return storage.stat(key) is not None


def is_certain(storage: Storage, key: str) -> bool:
    """Return whether this appliance is the only program that writes the value of a key."""
    if _is_reached_over_a_network(type(storage)):
        return storage.is_certain(key)  # type: ignore[attr-defined, no-any-return] # just checked
    return True


def descriptor_of(file: BinaryIO) -> int | None:
    """Return the file descriptor of an open value; None if the driver stores no files.

    Callers use the descriptor for sendfile, fstat and posix_fadvise.
    """
    try:
        return file.fileno()
    except UnsupportedOperation:
        return None


@cache  # PERF: a check against a protocol looks up each method, so the result is cached.
def _is_reached_over_a_network(driver: type) -> bool:
    return issubclass(driver, RemoteStorage)


@cache  # PERF: a check against a protocol looks up each method, so the result is cached.
def _has_times(driver: type) -> bool:
    return issubclass(driver, TimedStorage)
