"""Read and write links: digests under keys of the storage, each with the time of a confirmation.

A link is confirmed when an upstream or a push states that its digest is still right. The freshness
of a tag and the age of a link depend on the time of the last confirmation. There are two
implementations:

| class | storage | place of the time |
|---|---|---|
| `FileLinks` | stores times (`TimedStorage`), as a disk does | modification time of the file |
| `IndexLinks` | stores no times, such as a bucket | row of the index (`LinkTimes`) |

In both cases the storage has the link and its digest, so a loss of the index does not remove a
link. If a time is not recorded, it is `UNKNOWN`, and a tag with this time is not fresh.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Final, Protocol

from entrepot.datastore.errors import IndexUnavailable, Malformed, NotFound
from entrepot.datastore.index import LinkTime, LinkTimes
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage, TimedStorage, as_timed, is_certain

log = logging.getLogger(__name__)

UNKNOWN: Final = -inf
"""The time of a link whose last confirmation is not recorded: earlier than any other time."""

LONGEST_LINE: Final = 4096
"""The file of a link, a media type or a host name has at most this many bytes.

Longer files were written by another program, and are ignored.
"""


class Links(Protocol):
    """A `Links` reads and writes the links of one storage.

    Times are in seconds since the UTC epoch. All processes can read a time that one process has
    written. Each method can raise StorageFull and StorageBroken.
    """

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last confirmed; UNKNOWN if that is not recorded.

        Return None if the link is absent. Use this method only for keys that contain the digest,
        which are all keys except those of tags.
        """
        ...

    def read(self, key: str) -> tuple[Digest, float] | None:
        """Return the digest of a link, and when the link was last confirmed with this digest.

        Return None if the link is absent or unreadable.
        """
        ...

    def write(self, key: str, digest: Digest) -> None:
        """Set or confirm a link, durably."""
        ...

    def add(self, key: str, digest: Digest) -> None:
        """Set a link that is probably absent, without reading it first."""
        ...

    def keep(self, key: str, digest: Digest) -> None:
        """Set a link whose time is never read, such as a link in the history of a tag."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a link; return False if the link was absent."""
        ...


def links_of(storage: Storage, times: LinkTimes | None = None) -> Links:
    """Return the links of *storage*.

    If the storage stores no times, the times of links are in *times*. If *times* is None too, every
    time is UNKNOWN, and the confirmation of a link is not recorded.
    """
    timed = as_timed(storage)
    return IndexLinks(storage, times) if timed is None else FileLinks(timed)


class FileLinks:
    """A `FileLinks` uses the modification time of a link's file as the time of its confirmation.

    To confirm a link, a `FileLinks` writes the same link again, which sets this time.
    """

    def __init__(self, storage: TimedStorage) -> None:
        self._storage = storage

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last written; on a disk, this needs a single system call."""
        stat = self._storage.stat(key)
        return stat.modified if stat else None

    def read(self, key: str) -> tuple[Digest, float] | None:
        """Return the digest of a link, and the time at which its file was last written."""
        stat = self._storage.stat(key)
        digest = _digest(self._storage, key) if stat else None
        return (digest, stat.modified) if stat and digest else None

    def write(self, key: str, digest: Digest) -> None:
        """Write a link; the storage records the time."""
        self._storage.write(key, str(digest).encode())

    def add(self, key: str, digest: Digest) -> None:
        """Write a link; the storage records the time."""
        self._storage.write(key, str(digest).encode())

    def keep(self, key: str, digest: Digest) -> None:
        """Write a link."""
        self._storage.write(key, str(digest).encode())

    def delete(self, key: str) -> bool:
        """Remove a link with its time."""
        return self._storage.delete(key)


class IndexLinks:
    """An `IndexLinks` stores the times of links in the index.

    The link itself is written first; then a row of the index gets the time and the digest of the
    link. If a process crashes between the two writes, the row still has the old digest. The digests
    then differ, and the time of the link is UNKNOWN. While the index is unavailable, links can be
    read and written, and all times are UNKNOWN.
    """

    def __init__(self, storage: Storage, times: LinkTimes | None) -> None:
        self._storage = storage
        self._times = times

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last confirmed; None if the storage does not have the link."""
        if self._storage.stat(key) is None:
            return None
        found = self._time(key)
        return found.at if found else UNKNOWN

    def read(self, key: str) -> tuple[Digest, float] | None:
        """Return the digest that the storage has, and when that digest was last confirmed."""
        digest = _digest(self._storage, key)
        if digest is None:
            return None
        found = self._time(key)
        return digest, found.at if found and found.digest == digest else UNKNOWN

    def write(self, key: str, digest: Digest) -> None:
        """Write a link if the storage does not have it yet, then record its time."""
        self.keep(key, digest)
        self._confirm(key, digest)

    def add(self, key: str, digest: Digest) -> None:
        """Write a link, then record its time."""
        self._storage.write(key, str(digest).encode())
        self._confirm(key, digest)

    def _confirm(self, key: str, digest: Digest) -> None:
        if self._times is None:
            return
        try:
            self._times.confirm(key, digest)
        except IndexUnavailable as error:
            log.debug("confirmation not recorded", extra={"link": key, "error": error})

    def keep(self, key: str, digest: Digest) -> None:
        """Write a link if the storage does not have it yet."""
        # docker distribution may have removed a link that it can change too, even if this process
        # remembers the link. Therefore such a link is written in any case.
        if not is_certain(self._storage, key) or _digest(self._storage, key) != digest:
            self._storage.write(key, str(digest).encode())

    def delete(self, key: str) -> bool:
        """Remove a link, then its time."""
        was_there = self._storage.delete(key)
        if was_there and self._times is not None:
            try:
                self._times.forget([key])
            except IndexUnavailable as error:  # Without the link, the time has no effect.
                log.debug(
                    "the time of a removed link was kept", extra={"link": key, "error": error}
                )
        return was_there

    def _time(self, key: str) -> LinkTime | None:
        if self._times is None:
            return None
        try:
            return self._times.get(key)
        except IndexUnavailable as error:
            log.debug("the time of a link is unknown", extra={"link": key, "error": error})
            return None


def _digest(storage: Storage, key: str) -> Digest | None:
    """Return the digest in the file of a link; None if it is absent or contains no digest."""
    try:
        return Digest.parse(storage.read(key, LONGEST_LINE).decode("ascii", "replace"))
    except (Malformed, NotFound):
        return None
