"""Describe the position of a reader in a rotated log, and compute where the reader continues.

The functions of `position` do not access files. A rotated log is a family of files: `log` is the
current file, `log.1` the file before, `log.2` the file before that. Each rotation renames the
files, and a file system may reuse the inode number of a deleted file. A position therefore
identifies its file by the inode number and by a hash of the file's first bytes (fingerprint).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

HEAD = 256
"""A fingerprint covers at most this many bytes; no two lines of a log have equal first bytes."""

_ROTATED = re.compile(r"\.([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A `LogPosition` is a position in one file of a log: all bytes before `offset` were read.

    `head` is the fingerprint of the file's first `length` bytes; `modified`, in s, UTC epoch, is
    the file's modification time. If `skipping` is set, the line at `offset` began earlier, and is
    skipped because it is too long.
    """

    inode: int
    offset: int
    head: str
    length: int
    modified: float
    skipping: bool = False

    def dump(self) -> str:
        """Return the position as text for the index, which `load` parses."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None) -> LogPosition | None:
        """Return the position in *text*, which `dump` made; None if *text* is damaged or None."""
        try:
            return cls(**json.loads(text or "null"))
        except (TypeError, ValueError):
            return None

    def is_in(self, seen: Seen) -> bool:
        """Return whether *seen* is this position's file or a copy of it.

        A copy counts too, because some programs rotate a log by copying and truncating it. The
        logger then neither reads a line twice nor loses one.
        """
        if self.length == 0:
            return seen.inode == self.inode
        return seen.size >= self.offset and fingerprint(seen.head[: self.length]) == self.head


@dataclass(frozen=True, slots=True)
class Seen:
    """A `Seen` is one file of a log when it was listed; `head` has its first HEAD bytes."""

    name: str
    inode: int
    size: int
    modified: float
    head: bytes

    def start(self) -> LogPosition:
        """Return the position at the start of the file."""
        return LogPosition(self.inode, 0, fingerprint(b""), 0, self.modified)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A `ResumePoint` is the file and the position at which reading continues.

    `gap` is True if unread lines before this position were deleted.
    """

    seen: Seen
    position: LogPosition
    gap: bool = False


def fingerprint(head: bytes) -> str:
    """Return a short hash of a file's first bytes."""
    return hashlib.blake2b(head, digest_size=8).hexdigest()


def locate(family: Sequence[Seen], position: LogPosition | None) -> ResumePoint | None:
    """Return where to continue in *family*, oldest file first; None if *family* is empty.

    If the file of *position* was deleted, there is a gap. Reading then continues with the oldest
    file that was modified since *position*, because older files were read before.
    """
    if not family:
        return None
    if position is None:
        return ResumePoint(family[0], family[0].start())
    same = [seen for seen in family if position.is_in(seen)]
    for seen in (*(each for each in same if each.inode == position.inode), *same):
        return ResumePoint(seen, replace(position, inode=seen.inode))
    since = [seen for seen in family if seen.modified >= position.modified]
    oldest = (since or family)[0]
    return ResumePoint(oldest, oldest.start(), gap=True)


def after(family: Sequence[Seen], position: LogPosition) -> ResumePoint | None:
    """Return the file after that of *position*, which was read to its end; None if it is the last.

    Empty rotated files are skipped: an empty file has not even the end of a line that a rotation
    split. If the file of *position* was deleted while it was read, files after it may be missing
    too, so there is a gap.
    """
    inodes = [seen.inode for seen in family]
    if position.inode in inodes:
        younger = [
            seen
            for seen in family[inodes.index(position.inode) + 1 :]
            if seen.size or seen is family[-1]
        ]
        return ResumePoint(younger[0], younger[0].start()) if younger else None
    since = [seen for seen in family if seen.modified >= position.modified]
    return ResumePoint(since[0], since[0].start(), gap=True) if since else None


def generation(name: str, log: str) -> int | None:
    """Return how often *name* was rotated since it was *log*; None for other files."""
    if name == log:
        return 0
    number = _ROTATED.fullmatch(name.removeprefix(log))
    return int(number[1]) if number and name.startswith(log) else None
