"""Every way in which the datastore says no.

DatastoreError
├── Malformed               what was given cannot be such a thing
│   ├── InvalidDigest
│   ├── InvalidTag
│   ├── InvalidRepository
│   ├── InvalidManifest
│   └── InvalidLine         of the access log or the events file
├── NotFound                no value under that key
├── DigestMismatch          the bytes are not those that the digest names
├── StorageFull             no room, no quota, or read-only
├── StorageBroken           any other refusal of the disk
│   └── ContentDamaged      a file is not what was written to it
├── OutOfSpace              a push does not fit; carries `size` and `room` [bytes]
├── SpaceAwaited            a push does not fit now; the cleaner may free space
└── IndexUnavailable        the access index did not answer; never fatal to a pull
"""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class DatastoreError(Exception):
    """The root of the tree above."""


class Malformed(DatastoreError):  # noqa: N818 - the class says the fact, as all here do
    """What was given cannot be such a thing; `given` is shown to the client, shortened."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(f"{reason}: {given[:128]!r}")
        self.given = given[:128]
        self.reason = reason


class InvalidDigest(Malformed):
    """Not `algorithm:hex` of an algorithm that is known here."""


class InvalidTag(Malformed):
    """Not a tag as the distribution spec has it."""


class InvalidRepository(Malformed):
    """Not a repository name as the distribution spec has it."""


class InvalidManifest(Malformed):
    """Not JSON, or not a manifest of a type that is known here."""


class InvalidLine(Malformed):
    """Not a line of the access log or the events file."""


class NotFound(DatastoreError):  # noqa: N818
    """There is no value under `key`."""

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing under {key}")
        self.key = key


class DigestMismatch(DatastoreError):  # noqa: N818
    """The bytes are not those that the digest names."""

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(f"expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class StorageFull(DatastoreError):  # noqa: N818
    """The disk has no room or no quota left, or is read-only."""


class StorageBroken(DatastoreError):  # noqa: N818
    """The disk refused for any other reason."""


class ContentDamaged(StorageBroken):
    """A file is not what was written to it: something else cut, extended or changed it."""


class OutOfSpace(DatastoreError):  # noqa: N818
    """A push does not fit: it needs `size` bytes or more, and `room` bytes are left."""

    def __init__(self, size: int, room: int) -> None:
        super().__init__(f"{size} bytes do not fit into the {room} that are left")
        self.size = size
        self.room = room


class SpaceAwaited(DatastoreError):  # noqa: N818
    """A push does not fit now; the cleaner may free space, so the client may try again."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for {size} bytes yet: try again in a moment")
        self.size = size


class IndexUnavailable(DatastoreError):  # noqa: N818
    """The access index did not answer."""


def refusal(error: OSError) -> StorageFull | StorageBroken:
    """Tell what the disk's refusal means here; the caller raises it from *error*."""
    return (StorageFull if error.errno in _FULL else StorageBroken)(str(error))
