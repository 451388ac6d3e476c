"""Links: digests under keys of the storage, each with the time of its last confirmation.

The freshness of a tag and the age of a link depend on the time of the last confirmation. There are
two implementations:

| class | storage | the time is |
|---|---|---|
| `FileLinks` | keeps times (`TimedStorage`), as a disk does | the time of the link's file |
| `IndexLinks` | keeps none, as a bucket does | a row of the index (`LinkTimes`) |

In both, the storage has the link and the digest, so a lost index loses no link. A time that is not
known is `UNKNOWN`; a tag with this time is not fresh.
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
"""The time of a link whose last confirmation is not recorded, older than any age."""

LONGEST_LINE: Final = 4096
"""A link, a media type or a host name has at most this many bytes; longer files are foreign and are
ignored.
"""


class Links(Protocol):
    """The links of one storage; times are in s, UTC epoch.

    All processes see a time that one process has written. Each method raises: StorageFull,
    StorageBroken.
    """

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last written; UNKNOWN if not recorded, None if it is absent.

        The key of a link contains the digest, except the key of a tag.
        """
        ...

    def read(self, key: str) -> tuple[Digest, float] | None:
        """Return the digest of a link and when it was last written with this digest.

        Return None if the link is absent or unreadable.
        """
        ...

    def write(self, key: str, digest: Digest) -> None:
        """Set or confirm a link, which is then durable."""
        ...

    def add(self, key: str, digest: Digest) -> None:
        """Set a link that is probably absent, without reading it first."""
        ...

    def keep(self, key: str, digest: Digest) -> None:
        """Set a link whose time no caller reads, as in the history of a tag."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a link; return False if the link was absent."""
        ...


def links_of(storage: Storage, times: LinkTimes | None = None) -> Links:
    """Return the links of *storage*, whose times are in *times* if the storage keeps none.

    Without *times*, every time is UNKNOWN, and a written link stays unconfirmed.
    """
    timed = as_timed(storage)
    return IndexLinks(storage, times) if timed is None else FileLinks(timed)


class FileLinks:
    """A `FileLinks` takes the time of a link's value as the link's time.

    A link that is confirmed is written again, which sets this time.
    """

    def __init__(self, storage: TimedStorage) -> None:
        self._storage = storage

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last written, with a single system call on a disk."""
        stat = self._storage.stat(key)
        return stat.modified if stat else None

    def read(self, key: str) -> tuple[Digest, float] | None:
        """Return the digest of a link, and the time of its value."""
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
    """An `IndexLinks` keeps the times of links in the index.

    The link is written before its time, and the time names the digest. Therefore, after a crash
    between the two writes, or while another process changes the link, the time is UNKNOWN: a time
    is never taken for that of another digest. While the index is unavailable, links work and times
    are UNKNOWN.
    """

    def __init__(self, storage: Storage, times: LinkTimes | None) -> None:
        self._storage = storage
        self._times = times

    def confirmed(self, key: str) -> float | None:
        """Return when a link was last written; None if the storage has no such link any more."""
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
        """Write a link, if the storage does not have it already, and then its time."""
        self.keep(key, digest)
        self._confirm(key, digest)

    def add(self, key: str, digest: Digest) -> None:
        """Write a link, and then its time."""
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
        """Write a link, if the storage does not have it already."""
        # Another program may have removed the link since this process last read it.
        if not is_certain(self._storage, key) or _digest(self._storage, key) != digest:
            self._storage.write(key, str(digest).encode())

    def delete(self, key: str) -> bool:
        """Remove a link, and then its time."""
        was_there = self._storage.delete(key)
        if was_there and self._times is not None:
            try:
                self._times.forget([key])
            except IndexUnavailable as error:  # Without its link, the time has no meaning.
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
    """Return the digest that a link has; None if the link is absent or has other content."""
    try:
        return Digest.parse(storage.read(key, LONGEST_LINE).decode("ascii", "replace"))
    except (Malformed, NotFound):
        return None
