"""Where a reader of a rotated log stands, and where it goes on: pure, without a file.

A rotated log is a family: `log` is written to, `log.1` was before it, `log.2` before that. Names
move at each rotation, and a file system gives the number of a deleted file to the next new one;
so a position names its file by inode and by a fingerprint of the file's first bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

HEAD = 256
"""The most bytes of a file's beginning that a fingerprint covers; two lines never begin alike."""

_ROTATED = re.compile(r"\.([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Everything before `offset`, in bytes, was read in the file that is meant.

    `head` and `length` are the fingerprint and how many bytes it covers; `modified`, in s, UTC
    epoch, is when the file had last been written to. `skipping`: the line at `offset` began
    before it and is too long to be taken.
    """

    inode: int
    offset: int
    head: str
    length: int
    modified: float
    skipping: bool = False

    def dump(self) -> str:
        """Return what `load` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None) -> Position | None:
        """Return what was dumped; None for what never was a position."""
        try:
            return cls(**json.loads(text or "null"))
        except (TypeError, ValueError):
            return None

    def is_in(self, seen: Seen) -> bool:
        """Tell whether *seen* is the file, be it a copy: nothing is read twice or left out."""
        if self.length == 0:
            return seen.inode == self.inode
        return seen.size >= self.offset and fingerprint(seen.head[: self.length]) == self.head


@dataclass(frozen=True, slots=True)
class Seen:
    """One file of the family as it was just now: `size` in bytes, its first HEAD bytes."""

    name: str
    inode: int
    size: int
    modified: float
    head: bytes

    def start(self) -> Position:
        """Return the position before its first byte."""
        return Position(self.inode, 0, fingerprint(b""), 0, self.modified)


@dataclass(frozen=True, slots=True)
class Found:
    """Where to go on: `gap` when lines were written that nobody can read any more."""

    seen: Seen
    position: Position
    gap: bool = False


def fingerprint(head: bytes) -> str:
    """Return a short hash of a file's first bytes."""
    return hashlib.blake2b(head, digest_size=8).hexdigest()


def locate(family: Sequence[Seen], position: Position | None) -> Found | None:
    """Find where to go on in a *family*, oldest first; None while there is no file at all.

    A position whose file is gone is a gap: reading goes on with the oldest file that was written
    to since, for those before it had been read.
    """
    if not family:
        return None
    if position is None:
        return Found(family[0], family[0].start())
    same = [seen for seen in family if position.is_in(seen)]
    for seen in (*(each for each in same if each.inode == position.inode), *same):
        return Found(seen, replace(position, inode=seen.inode))
    since = [seen for seen in family if seen.modified >= position.modified]
    oldest = (since or family)[0]
    return Found(oldest, oldest.start(), gap=True)


def after(family: Sequence[Seen], position: Position) -> Found | None:
    """Find the file that came after the one of *position*, read to its end; None while none did.

    An empty file that was rotated has nothing to give, not even the end of a line. A file that
    left the family while it was read took with it how many came after: a gap.
    """
    inodes = [seen.inode for seen in family]
    if position.inode in inodes:
        younger = [
            seen
            for seen in family[inodes.index(position.inode) + 1 :]
            if seen.size or seen is family[-1]
        ]
        return Found(younger[0], younger[0].start()) if younger else None
    since = [seen for seen in family if seen.modified >= position.modified]
    return Found(since[0], since[0].start(), gap=True) if since else None


def generation(name: str, log: str) -> int | None:
    """Return how many rotations ago *name* was *log*: 0 is now; None when it never was."""
    if name == log:
        return 0
    number = _ROTATED.fullmatch(name.removeprefix(log))
    return int(number[1]) if number and name.startswith(log) else None
