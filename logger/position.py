"""Describe up to which position a rotated log was read, and compute where reading continues.

A rotated log consists of several files: `log` is the current file, `log.1` the one before it, and
`log.2` the one before that. Each rotation renames the files, and a file system can give the inode
number of a deleted file to a new file. So a position identifies its file by the inode number and by
a hash of the file's first bytes, its fingerprint. The functions of this module do not access files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

HEAD = 256
"""A fingerprint covers at most this many bytes of a file.

These bytes differ in each file of a log, because log lines begin with their time.
"""

_ROTATED = re.compile(r"\.([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A `LogPosition` is a position in one file of a log. All bytes before `offset` were read.

    `head` is the fingerprint of the file's first `length` bytes. `modified` is the modification
    time of the file in seconds since the UTC epoch. If `skipping` is true, `offset` is inside a
    line that is skipped because it is too long.
    """

    inode: int
    offset: int
    head: str
    length: int
    modified: float
    skipping: bool = False

    def dump(self) -> str:
        """Return the position as a text, which the index stores and `load` parses."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None) -> LogPosition | None:
        """Return the position in *text*, which `dump` returned; None if it is damaged or None."""
        try:
            return cls(**json.loads(text or "null"))
        except (TypeError, ValueError):
            return None

    def is_in(self, seen: Seen) -> bool:
        """Return whether *seen* is the file of this position, or a copy of that file.

        Some programs rotate a log by copying and truncating it. Because the copy is accepted, the
        logger reads every line exactly once with these programs too.
        """
        if self.length == 0:
            return seen.inode == self.inode
        return seen.size >= self.offset and fingerprint(seen.head[: self.length]) == self.head


@dataclass(frozen=True, slots=True)
class Seen:
    """A `Seen` is the state of one file of a log; `head` has its first HEAD bytes."""

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

    `gap` is true if unread lines before this position were deleted.
    """

    seen: Seen
    position: LogPosition
    gap: bool = False


def fingerprint(head: bytes) -> str:
    """Return a short hash of a file's first bytes."""
    return hashlib.blake2b(head, digest_size=8).hexdigest()


def locate(family: Sequence[Seen], position: LogPosition | None) -> ResumePoint | None:
    """Return where to continue reading in *family*, the files of a log, the oldest file first.

    If the file of *position* was deleted, `gap` of the result is true. Reading then continues with
    the oldest file that was modified since *position*, because the older files are already read.
    Return None if *family* is empty.
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
    """Return where to continue after the file of *position*, which was read to its end.

    Return None if the log has no later file. Empty rotated files are skipped. If the file of
    *position* was deleted while it was read, the next files may have been deleted too, so `gap` of
    the result is true.
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
    """Return the number in the name of a rotated file: 0 for *log*, 1 for `log.1`, and so on.

    Return None for the name of any other file.
    """
    if name == log:
        return 0
    number = _ROTATED.fullmatch(name.removeprefix(log))
    return int(number[1]) if number and name.startswith(log) else None
