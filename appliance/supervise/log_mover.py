"""Moves the access log from HAProxy's pipe into its files, in a thread of `serve`.

Who reads a pipe holds up who writes to it, and HAProxy has one thread for everything. So it is
emptied in small pieces, and not by splice(), which would hold it until the disk has taken all.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import threading
import time
from contextlib import suppress

from entrepot.appliance.supervise import log_pipe
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.runtime.log_once import LogOnce

_log = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes that are written at once; no line is longer."""

_MUCH = log_pipe.BYTES // 4
_PAUSE_MS = 8
_RETRY_MS = 200
_REPORT_S = 1.0
_NEWLINE = ord("\n")
_LAST_TRIES = 5


class LogMover:
    """The thread that empties *pipe*, which is its own from now on, into *log*.

    *limit* leaves lines out that show no use.

    While the disk refuses a piece, nothing more is taken out of the pipe: then HAProxy drops lines,
    and counts them for the logger (logger/dropped_lines.py).
    """

    def __init__(self, pipe: int, log: RotatedLog, limit: LineLimit | None = None) -> None:
        self._pipe = pipe
        self._limit = limit
        self._log = log
        self._pause_ms = _PAUSE_MS if _is_large(pipe) else 0
        self._piece = bytearray(PIECE)
        self._filled = 0  # bytes at the front of the piece: a line whose end has not come yet
        self._last_tries, self._lost = _LAST_TRIES, 0
        self._complaint = LogOnce(_log, "access log not writable", "access log writable again")
        self._end, self._ender = os.pipe()
        self._thread = threading.Thread(target=self._move_all, name="access log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Move what is still in the pipe, and end. For when nobody writes to it any more."""
        os.write(self._ender, b".")
        self._thread.join()
        for each in (self._pipe, self._end, self._ender):
            os.close(each)
        self._log.close()

    def _move_all(self) -> None:
        """Move what comes, until the end.

        PERF: while lines flow it looks now and then, for a reader that waits costs the writer of
        each line a wake-up; at rest it waits, and costs nothing. A small pipe has no time.
        """
        with suppress(OSError):  # the first line says so
            self._log.open()
        while not self._is_ended(0):
            patience = None if self._limit is None or self._limit.report() else _REPORT_S
            select.select([self._pipe, self._end], [], [], patience)
            while moved := self._move():
                if moved < _MUCH:
                    self._is_ended(self._pause_ms)
        self._move()
        self._write(self._filled)
        if self._limit is not None:
            self._limit.end()
        if self._lost:
            _log.error("access log lost its end", extra={"bytes": self._lost})

    def _is_ended(self, wait_ms: int) -> bool:
        """Tell whether this is the end; wait for it so long."""
        return bool(select.select([self._end], [], [], wait_ms / 1000)[0])

    def _move(self) -> int:
        """Move what the pipe holds, and return how many bytes those were."""
        moved, is_more = 0, True
        while is_more:
            room = PIECE - self._filled
            came = self._read()
            moved, self._filled, is_more = moved + came, self._filled + came, came == room
            whole = self._piece.rfind(b"\n", 0, self._filled) + 1
            if whole or self._filled == PIECE:
                self._write(whole or PIECE)
        return moved

    def _read(self) -> int:
        """Fill the rest of the piece, and return how many bytes have come."""
        with suppress(BlockingIOError), memoryview(self._piece) as piece:
            return os.readv(self._pipe, [piece[self._filled :]])
        return 0

    def _write(self, length: int) -> None:
        """Write the first bytes of the piece, and leave the others at its front."""
        with memoryview(self._piece) as piece:
            lines = self._picked(piece[:length])
            while lines and (written := self._append(lines)) is not None:
                lines = lines[written:]
            self._lost += len(lines)
            rest = bytes(piece[length : self._filled])
            piece[: len(rest)] = rest
            self._filled = len(rest)

    def _picked(self, lines: memoryview) -> memoryview:
        is_whole = self._limit is not None and lines and lines[-1] == _NEWLINE
        return self._limit.picked(lines) if self._limit and is_whole else lines

    def _append(self, lines: memoryview) -> int | None:
        """Return how many bytes could be written; None if that was the last try."""
        try:
            written = self._log.append(lines)
        except OSError as error:
            self._complaint.failed(error)
            return 0 if self._may_retry() else None
        self._complaint.worked()
        return written

    def _may_retry(self) -> bool:
        """Wait for the disk: however long, but at the end only for a second in all."""
        if self._is_ended(_RETRY_MS):
            self._last_tries -= 1
            time.sleep(_RETRY_MS / 1000)
        return self._last_tries > 0


def _is_large(pipe: int) -> bool:
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) >= log_pipe.BYTES
