"""Exceptions of the datastore.

DatastoreError
├── Malformed               the text is not a valid value of its kind
│   ├── InvalidDigest
│   ├── InvalidTag
│   ├── InvalidRepository
│   ├── InvalidManifest
│   ├── InvalidSnapshot     of the index, in a bucket
│   └── InvalidLine         of the access log or the events file
├── NotFound                the storage has no value with this key
├── DigestMismatch          the bytes do not match the digest
├── StorageFull             the disk has no space or quota left, or is read-only
├── StorageBroken           any other error of the disk or the bucket
│   └── ContentDamaged      a file does not contain the bytes that were written to it
├── OutOfSpace              a push does not fit below the cap; has `size` and `available` (bytes)
├── SpaceAwaited            a push does not fit now, but the cleaner can free space
└── IndexUnavailable        the index cannot be used; a pull continues without it
"""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class DatastoreError(Exception):
    """`DatastoreError` is the base class of all exceptions in this module."""


class Malformed(DatastoreError):  # noqa: N818 - the names state facts
    """A text is not a valid value; `given` is the start of the text, which clients can see."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(f"{reason}: {given[:128]!r}")
        self.given = given[:128]
        self.reason = reason


class InvalidDigest(Malformed):
    """A digest is not `algorithm:hex` with a supported algorithm."""


class InvalidTag(Malformed):
    """A text is not a valid tag by the OCI distribution spec."""


class InvalidRepository(Malformed):
    """A text is not a valid repository name by the OCI distribution spec."""


class InvalidManifest(Malformed):
    """The bytes of a manifest are not JSON, or not a manifest of a supported type."""


class InvalidSnapshot(Malformed):
    """The bytes of an object are not a part of a snapshot of the index."""


class InvalidLine(Malformed):
    """Bytes of a log are not a line of the access log or the events file."""


class NotFound(DatastoreError):  # noqa: N818
    """The storage has no value with the key `key`."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no value under {key}")
        self.key = key


class DigestMismatch(DatastoreError):  # noqa: N818
    """The bytes of content do not match its digest."""

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(f"expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class StorageFull(DatastoreError):  # noqa: N818
    """The disk has no space or quota left, or is read-only."""


class StorageBroken(DatastoreError):  # noqa: N818
    """The disk or the bucket reported an error other than a lack of space."""


class ContentDamaged(StorageBroken):
    """A file no longer contains the bytes that were written to it, so its digest is wrong."""


class OutOfSpace(DatastoreError):  # noqa: N818
    """A push does not fit: it needs at least `size` bytes, but only `available` bytes are free."""

    def __init__(self, size: int, available: int) -> None:
        super().__init__(f"{size} bytes do not fit: {available} bytes are available")
        self.size = size
        self.available = available


class SpaceAwaited(DatastoreError):  # noqa: N818
    """A push does not fit now; the client can retry later, when the cleaner has freed space."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no space for {size} bytes yet: retry in a moment")
        self.size = size


class IndexUnavailable(DatastoreError):  # noqa: N818
    """The index cannot be used."""


def storage_error(error: OSError) -> StorageFull | StorageBroken:
    """Return the exception for a failed disk operation; the caller raises it from *error*."""
    return (StorageFull if error.errno in _FULL else StorageBroken)(str(error))
