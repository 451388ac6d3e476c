"""Read a log that another process writes and rotates: every line once and in order.

A rotation can split a line, because the writer rotates the log after a number of bytes, which can
end inside a line. The next file then begins with the rest of this line.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.logger import position as positions
from entrepot.logger.position import HEAD, LogPosition, ResumePoint, Seen

LONGEST = 64 * 1024
"""The largest number of bytes in a line, with its newline. A longer line is skipped."""
CHUNK = 1024 * 1024
"""The largest number of bytes in one read of a file. It must be larger than LONGEST."""
_ATTEMPTS = 100
# If the log is a pipe by mistake, O_NONBLOCK keeps `open` from waiting for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Batch:
    """A `Batch` is the result of one read: complete lines, and the position after them.

    `overlong` is the number of lines that were skipped because they are too long. `gaps` counts the
    times that a rotation deleted earlier lines before they were read. If `more` is true, another
    read can return lines at once.
    """

    lines: Sequence[bytes] = ()
    position: LogPosition | None = None
    overlong: int = 0
    gaps: int = 0
    more: bool = False


class Tail:
    """A `Tail` reads one log, from *position* on, or from its oldest file if *position* is None.

    After a rotation, the `Tail` reads the rotated file for another *grace* seconds, because a
    writer may still have the file open. One read takes at most *chunk* bytes, which must be more
    than LONGEST. Only one thread may call `read` and `close`. If `read` raises an OSError, the next
    `read` continues at the same position.
    """

    def __init__(
        self,
        path: Path,
        position: LogPosition | None,
        *,
        grace: float = 0,
        chunk: int = CHUNK,
    ) -> None:
        self._path = path
        self._position = position
        self._grace = grace
        self._chunk = chunk
        self._file = -1
        self._rotated: float | None = None

    def read(self, now: float) -> Batch:
        """Return lines that were written since the last read.

        *now* is the time of a monotonic clock in seconds. Raises: OSError.
        """
        before = self._position
        try:
            return self._read(now)
        except OSError:
            self.close()
            self._position = before
            raise

    def is_caught_up(self) -> bool:
        """Return whether the current file of the log is open and read to its end."""
        if self._file < 0 or self._position is None or self._is_rotated():
            return False
        return os.fstat(self._file).st_size == self._position.offset

    def close(self) -> None:
        """Close the log file; the next `read` opens it again."""
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

    def _open(self, found: ResumePoint | None) -> Batch:
        """Open the file of *found*, and continue at its position.

        If the file was rotated or deleted meanwhile, return no lines. The next call of `read`
        searches for the position again.
        """
        if found is None:
            return Batch()
        try:
            file = os.open(self._path.with_name(found.seen.name), _READ)
        except FileNotFoundError:
            return Batch(more=True)
        if os.fstat(file).st_ino != found.seen.inode:
            os.close(file)
            return Batch(more=True)
        self.close()
        self._file, self._position = file, found.position
        return Batch(position=found.position, gaps=int(found.gap), more=True)

    def _at(self) -> LogPosition:
        assert self._position is not None  # noqa: S101 - an open file has a position
        return self._position

    def _is_truncated(self) -> bool:
        """Return whether the open file was truncated or overwritten since the last read."""
        at = self._at()
        head = os.pread(self._file, at.length, 0)
        return os.fstat(self._file).st_size < at.offset or positions.fingerprint(head) != at.head

    def _is_rotated(self) -> bool:
        """Return whether the name of the log now belongs to another file.

        If no file of the log exists, the log was deleted and not rotated, and its writer can still
        append to the open file.
        """
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        return bool(family(self._path))

    def _take(self) -> Batch:
        """Read complete lines, or skip a piece of a line that is too long."""
        at = self._at()
        data = os.pread(self._file, self._chunk, at.offset)
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
        return replace(moved, lines=taken, more=len(data) == self._chunk)

    def _skip(self, data: bytes) -> Batch:
        at, end = self._at(), data.find(b"\n") + 1
        if not data:
            return Batch()
        return self._move(
            replace(at, offset=at.offset + (end or len(data)), skipping=end == 0), overlong=0
        )

    def _move(self, to: LogPosition, *, overlong: int) -> Batch:
        """Set the position to *to*; renew a fingerprint that covers fewer than HEAD bytes."""
        length = min(to.offset, HEAD)
        if length != to.length:
            head = positions.fingerprint(os.pread(self._file, length, 0))
            to = replace(to, length=length, head=head)
        self._position = replace(to, modified=os.fstat(self._file).st_mtime)
        return Batch(position=self._position, overlong=overlong, more=True)

    def _leave(self, now: float) -> Batch:
        """Continue with the next file of the log after the rotated file was read to its end."""
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

    def _join(self, rest: bytes, found: ResumePoint) -> Batch:
        """Join the two parts of a line that a rotation split between two files."""
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

    def _beginning(self, found: ResumePoint) -> bytes | None:
        """Return the first line of the file of *found*, with its newline.

        Return None if the line is incomplete and its writer may still complete it. Return b"" if
        the line is incomplete and its writer can no longer complete it.
        """
        with suppress(FileNotFoundError), self._path.with_name(found.seen.name).open("rb") as file:
            data = file.read(LONGEST)
            end = data.find(b"\n") + 1
            is_last = found.seen.name == self._path.name
            return data[:end] if end or len(data) == LONGEST or not is_last else None
        return None


def is_whole(line: bytes) -> bool:
    """Return whether *line* is a complete log line, which is a JSON object.

    The rest of a split line is never a JSON object, because the objects in a log are not nested.
    """
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def family(path: Path) -> list[Seen]:
    """Return a consistent list of the files of a log, the oldest file first.

    A rotation can be in progress. Therefore the folder is listed up to `_ATTEMPTS` more times after
    the first list, until two successive lists are equal. Raises: OSError.
    """
    before = _list(path)
    for _ in range(_ATTEMPTS):
        now = _list(path)
        if [(each.name, each.inode) for each in now] == [
            (each.name, each.inode) for each in before
        ]:
            break
        before = now
    return before


def _list(path: Path) -> list[Seen]:
    """List the files of a log once. During a rotation, a file can be listed twice or not at all."""
    try:
        names = [each.name for each in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    ages = {name: positions.generation(name, path.name) for name in names}
    found = sorted(((age, name) for name, age in ages.items() if age is not None), reverse=True)
    seen = [_describe(path.with_name(name)) for _, name in found]
    return [each for each in seen if each is not None]


def _describe(path: Path) -> Seen | None:
    """Return the state of a file; None if the file does not exist. Raises: OSError."""
    try:
        file = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(
                errno.EINVAL, "the log is a pipe or a directory, not a file", os.fspath(path)
            )
        head = os.pread(file, HEAD, 0)
        return Seen(path.name, found.st_ino, found.st_size, found.st_mtime, head)
    finally:
        os.close(file)
