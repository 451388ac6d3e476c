"""Reads a log that somebody else writes and rotates: every line once, in order, whatever happens.

A rotation may come in the middle of a line, for who rotates sees bytes and not lines: the end
of such a line is the beginning of the next file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from logger import position as positions
from logger.position import HEAD, Found, Position, Seen

LONGEST = 64 * 1024
"""Bytes in the longest line that is taken, with its end."""
CHUNK = 1024 * 1024
"""Bytes that one look at a file may bring; more than LONGEST."""
_LOOKS = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look brought: whole lines without their ends, and the position behind them.

    `overlong` lines were left out; `gaps` is how often lines were lost before these. `more` says
    that another look may bring something at once.
    """

    lines: Sequence[bytes] = ()
    position: Position | None = None
    overlong: int = 0
    gaps: int = 0
    more: bool = False


class Tail:
    """One log, followed from *position*, or from the oldest file of its family.

    A rotated file is left *grace* seconds after its rotation was seen, for a writer that had
    opened it before. `read` and `close` are for one thread. Errors of the disk leave `read` as
    OSError; the next `read` goes on where the last one ended.
    """

    def __init__(self, path: Path, position: Position | None, *, grace: float = 0) -> None:
        self._path = path
        self._position = position
        self._grace = grace
        self._file = -1
        self._rotated: float | None = None

    def read(self, now: float) -> Batch:
        """Return what has been written since the last time, at most about CHUNK of it.

        *now*, in s, is any clock that does not go back. Raises: OSError.
        """
        before = self._position
        try:
            return self._read(now)
        except OSError:
            self.close()
            self._position = before
            raise

    def is_caught_up(self) -> bool:
        """Tell whether the file that is written to is open and read to its end."""
        if self._file < 0 or self._position is None or self._is_rotated():
            return False
        return os.fstat(self._file).st_size == self._position.offset

    def close(self) -> None:
        """Let go of the file; `read` opens it again."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._rotated = -1, None

    def _read(self, now: float) -> Batch:
        if self._file < 0 or self._is_truncated():
            return self._open(positions.locate(family(self._path), self._position))
        batch = self._take()
        if batch.more or not self._is_rotated():
            return batch
        return replace(batch, more=True) if batch.lines else self._leave(now)

    def _open(self, found: Found | None) -> Batch:
        """Go on where *found* says; a file that is gone by now is found under another name."""
        if found is None:
            return Batch()
        try:
            file = os.open(self._path.with_name(found.seen.name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Batch(more=True)
        if os.fstat(file).st_ino != found.seen.inode:
            os.close(file)
            return Batch(more=True)
        self.close()
        self._file, self._position = file, found.position
        return Batch(position=found.position, gaps=int(found.gap), more=True)

    def _at(self) -> Position:
        assert self._position is not None  # noqa: S101 - an open file has a position
        return self._position

    def _is_truncated(self) -> bool:
        """Tell whether the open file is no longer what was read from it."""
        at = self._at()
        head = os.pread(self._file, at.length, 0)
        return os.fstat(self._file).st_size < at.offset or positions.fingerprint(head) != at.head

    def _is_rotated(self) -> bool:
        """Tell whether the log is by now another file; who deletes it may go on writing to it."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        return bool(family(self._path))

    def _take(self) -> Batch:
        """Read whole lines, or leave out a piece of a line that is too long."""
        at = self._at()
        data = os.pread(self._file, CHUNK, at.offset)
        end = data.rfind(b"\n") + 1
        if at.skipping:
            return self._skip(data)
        if end == 0 and len(data) >= LONGEST:
            return self._move(replace(at, offset=at.offset + len(data), skipping=True), overlong=1)
        if end == 0:
            return Batch()
        lines = data[: end - 1].split(b"\n")
        taken = [line for line in lines if len(line) < LONGEST]
        moved = self._move(replace(at, offset=at.offset + end), overlong=len(lines) - len(taken))
        return replace(moved, lines=taken, more=len(data) == CHUNK)

    def _skip(self, data: bytes) -> Batch:
        at, end = self._at(), data.find(b"\n") + 1
        if not data:
            return Batch()
        return self._move(
            replace(at, offset=at.offset + (end or len(data)), skipping=end == 0), overlong=0
        )

    def _move(self, to: Position, *, overlong: int) -> Batch:
        """Step to *to*, with a fingerprint of as much as there is by now."""
        length = min(to.offset, HEAD)
        if length != to.length:
            head = positions.fingerprint(os.pread(self._file, length, 0))
            to = replace(to, length=length, head=head)
        self._position = replace(to, modified=os.fstat(self._file).st_mtime)
        return Batch(position=self._position, overlong=overlong, more=True)

    def _leave(self, now: float) -> Batch:
        """Go on to the next file, with what is left of the last line in this one."""
        if self._rotated is None:
            self._rotated = now
        if now - self._rotated < self._grace:
            return Batch()
        late = self._take()
        if late.position is not None:
            return replace(late, more=True)
        found = positions.after(family(self._path), self._at())
        if found is None:
            return Batch()
        at = self._at()
        rest = os.pread(self._file, LONGEST, at.offset)
        return self._join(rest, found) if rest or at.skipping else self._open(found)

    def _join(self, rest: bytes, found: Found) -> Batch:
        """Put the two parts of a line together, unless the second is a line of its own."""
        skipping, file = self._at().skipping, self._file
        second = self._beginning(found)
        if second is None:
            return Batch()
        opened = self._open(found)
        if self._file == file:
            return opened
        if found.gap or not second or is_whole(second):
            return replace(opened, lines=[rest] if rest else [])
        moved = self._move(replace(self._at(), offset=len(second)), overlong=0)
        if skipping or len(rest) + len(second) > LONGEST:
            return replace(moved, overlong=int(not skipping))
        return replace(moved, lines=[rest + second[:-1]])

    def _beginning(self, found: Found) -> bytes | None:
        """Return a file's first line with its end: None if that may come, empty if it won't."""
        with suppress(FileNotFoundError), self._path.with_name(found.seen.name).open("rb") as file:
            data = file.read(LONGEST)
            end = data.find(b"\n") + 1
            is_last = found.seen.name == self._path.name
            return data[:end] if end or len(data) == LONGEST or not is_last else None
        return None


def is_whole(line: bytes) -> bool:
    """Tell a line of the log, a flat JSON object, from the second part of one: it never is one."""
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def family(path: Path) -> list[Seen]:
    """Return a log's files, oldest first, as they are between two rotations. Raises: OSError."""
    before = _look(path)
    for _ in range(_LOOKS):
        now = _look(path)
        if [(each.name, each.inode) for each in now] == [
            (each.name, each.inode) for each in before
        ]:
            break
        before = now
    return before


def _look(path: Path) -> list[Seen]:
    """Look once; a rotation meanwhile may show a file twice or not at all."""
    try:
        names = [each.name for each in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    ages = {name: positions.generation(name, path.name) for name in names}
    found = sorted(((age, name) for name, age in ages.items() if age is not None), reverse=True)
    seen = [_see(path.with_name(name)) for _, name in found]
    return [each for each in seen if each is not None]


def _see(path: Path) -> Seen | None:
    with suppress(FileNotFoundError), path.open("rb") as file:
        stat = os.fstat(file.fileno())
        return Seen(path.name, stat.st_ino, stat.st_size, stat.st_mtime, file.read(HEAD))
    return None
