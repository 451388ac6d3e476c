"""Move the lines of the access log from HAProxy's pipes into the log file, in a thread of `serve`.

While a process reads from a pipe, the writer of the pipe has to wait. The writer is a thread of
HAProxy that serves many connections, so a pipe is read in small pieces. The system call splice() is
not used, because it would lock the pipe until the disk has accepted all bytes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from entrepot.appliance.supervise import log_pipe
from entrepot.appliance.supervise.access_formats import without_tails
from entrepot.appliance.supervise.access_printer import AccessPrinter
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.runtime.log_once import LogOnce

_log = logging.getLogger(__name__)

PIECE = 64 * 1024
"""The largest number of bytes in one write, and in one line."""

_MUCH = log_pipe.BYTES // 4
_PAUSE_MS = 8
_RETRY_MS = 200
_REPORT_S = 1.0
_NEWLINE = ord("\n")
# HAProxy puts this byte into the line of each request that may show no use of content. No value in
# a line contains this byte.
_MARK = b"\t"
_LAST_TRIES = 5  # After `close`, a failing write is tried this many times.


class _Source:
    """A `_Source` is the pipe of a HAProxy thread; `piece` has the bytes to write next."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.piece = bytearray(PIECE)
        self.filled = 0  # The number of bytes in the piece.

    def read(self) -> int:
        """Fill the rest of the piece, and return the number of bytes read."""
        with suppress(BlockingIOError), memoryview(self.piece) as piece:
            return os.readv(self.pipe, [piece[self.filled :]])
        return 0

    def remove(self, length: int) -> None:
        """Remove the first *length* bytes, and move the others to the start of the piece."""
        rest = bytes(self.piece[length : self.filled])
        self.piece[: len(rest)] = rest
        self.filled = len(rest)


class LogMover:
    """A `LogMover` has a thread that moves the lines of all *pipes* into *log*.

    *limit* drops lines that show no use. *printer* also gets the lines that are not dropped.

    If the disk rejects a write, the thread repeats the write, and reads nothing from the pipes
    meanwhile. When a pipe is full, HAProxy drops lines and counts them; logger/dropped_lines.py
    reads this number.
    """

    def __init__(
        self,
        pipes: Sequence[int],
        log: RotatedLog,
        limit: LineLimit | None = None,
        printer: AccessPrinter | None = None,
    ) -> None:
        self._sources = [_Source(pipe) for pipe in pipes]
        self._limit = limit
        self._printer = printer
        self._log = log
        self._pause_ms = _PAUSE_MS if all(map(_is_large, pipes)) else 0
        self._last_tries, self._lost = _LAST_TRIES, 0
        self._complaint = LogOnce(_log, "access log not writable", "access log writable again")
        self._end, self._end_writer = os.pipe()
        self._thread = threading.Thread(target=self._move_all, name="access log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Move the lines that are still in the pipes, and end the thread.

        Call this method only after HAProxy has exited.
        """
        os.write(self._end_writer, b".")
        self._thread.join()
        for each in (*(source.pipe for source in self._sources), self._end, self._end_writer):
            os.close(each)
        self._log.close()
        if self._printer is not None:
            self._printer.close()

    def _move_all(self) -> None:
        """Move lines until `close` is called.

        PERF: while lines arrive, the thread reads the pipes every few milliseconds and does not
        block in a read. If the thread blocked, HAProxy would have to wake it up for each line. The
        thread blocks only when no line arrives. If a pipe is small, the thread does not pause,
        because the pipe would be full before the end of the pause.
        """
        # If the log file cannot be opened now, the first write opens it, and logs an error if the
        # file still cannot be opened.
        with suppress(OSError):
            self._log.open()
        pipes = [source.pipe for source in self._sources]
        while not self._is_ended(0):
            timeout = None if self._limit is None or self._limit.report() else _REPORT_S
            select.select([*pipes, self._end], [], [], timeout)
            while most := max([self._move(source) for source in self._sources]):
                if most < _MUCH:
                    self._is_ended(self._pause_ms)
        for source in self._sources:
            self._move(source)
            self._write(source, source.filled)
        if self._limit is not None:
            self._limit.end()
        if self._lost:
            _log.error("the last lines of the access log are lost", extra={"bytes": self._lost})

    def _is_ended(self, wait_ms: int) -> bool:
        """Wait at most *wait_ms* for a call of `close`, and return whether it was called."""
        return bool(select.select([self._end], [], [], wait_ms / 1000)[0])

    def _move(self, source: _Source) -> int:
        """Move the content of a pipe into the log, and return the number of bytes."""
        moved, is_more = 0, True
        while is_more:
            room = PIECE - source.filled
            came = source.read()
            moved, source.filled, is_more = moved + came, source.filled + came, came == room
            complete = source.piece.rfind(b"\n", 0, source.filled) + 1
            if complete or source.filled == PIECE:
                self._write(source, complete or PIECE)
        return moved

    def _write(self, source: _Source, length: int) -> None:
        """Write the first *length* bytes of the piece, and remove them from the piece."""
        is_marked = source.piece.find(_MARK, 0, length) >= 0
        with memoryview(source.piece) as piece:
            lines = self._filter(piece[:length]) if is_marked else piece[:length]
            if self._printer is not None:
                lines = self._printed(bytes(lines), self._printer)
            while lines and (written := self._append(lines)) is not None:
                lines = lines[written:]
            self._lost += len(lines)
            source.remove(length)

    def _filter(self, lines: memoryview) -> memoryview:
        """Remove the marks from *lines*, and drop the lines that exceed the limit.

        PERF: this method is called only if at least one of *lines* has a mark. Most lines of
        responses from HAProxy's cache have no mark.
        """
        unmarked = memoryview(bytes(lines).replace(_MARK, b""))
        is_complete = self._limit is not None and unmarked and unmarked[-1] == _NEWLINE
        return self._limit.filter(unmarked) if self._limit and is_complete else unmarked

    def _printed(self, lines: bytes, printer: AccessPrinter) -> memoryview:
        """Offer complete lines to *printer*, and return the lines as the log file contains them."""
        if lines.endswith(b"\n"):
            printer.offer(lines)
        return memoryview(without_tails(lines))

    def _append(self, lines: memoryview) -> int | None:
        """Write lines to the log file, and return the number of bytes written.

        Return 0 if the disk failed and the caller must try again. Return None if the disk failed
        and the caller must not try again.
        """
        try:
            written = self._log.append(lines)
        except OSError as error:
            self._complaint.failed(error)
            return 0 if self._may_retry() else None
        self._complaint.worked()
        return written

    def _may_retry(self) -> bool:
        """Wait before a retry, and return whether to try again.

        Before `close`, the number of retries is unlimited. After `close`, all retries together take
        one second.
        """
        if self._is_ended(_RETRY_MS):
            self._last_tries -= 1
            time.sleep(_RETRY_MS / 1000)
        return self._last_tries > 0


def _is_large(pipe: int) -> bool:
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) >= log_pipe.BYTES
