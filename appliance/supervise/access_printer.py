"""Print the access log on stdout, in a thread of `serve` (`log.accesslog`).

If the reader of stdout is slow, the thread drops lines and counts them, so that no other part of
the appliance has to wait. The log messages of all programs go to stdout too. So if stdout is a
pipe, the access log fills at most a quarter of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from entrepot.appliance.supervise.access_formats import Render

_log = logging.getLogger(__name__)

QUEUE_BYTES = 4 * 1024 * 1024
"""At most this many bytes of lines wait for stdout; if there are more, new lines are dropped."""

_PIECE = 16 * 1024  # The largest number of bytes in one write to stdout.
_SHARE = 4  # The access log may use a quarter of a pipe.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05
_CLOSE_S = 1.0
_REPORT_S = 10.0


class AccessPrinter:
    """An `AccessPrinter` has a thread that renders lines and writes them to *descriptor*.

    *left_out* is called at most once in 10 s, and by `close`, with the number of lines that were
    dropped since the previous call.
    """

    def __init__(
        self,
        descriptor: int,
        render: Render,
        left_out: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._descriptor = descriptor
        self._render = render
        self._on_left_out = left_out
        self._capacity = _pipe_size(descriptor)
        self._piece = min(_PIECE, self._capacity // _SHARE) if self._capacity else _PIECE
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._changed = threading.Condition()
        self._waiting = deque[bytes]()
        self._bytes = self._left_out = 0
        self._reported = -_REPORT_S
        self._deadline: float | None = None  # After `close`: when to drop the remaining lines.
        self._thread = threading.Thread(target=self._print_all, name="access printer", daemon=True)
        self._thread.start()

    def offer(self, lines: bytes) -> None:
        """Queue complete *lines* for printing, or drop them if too many wait; never block."""
        with self._changed:
            if self._bytes + len(lines) > QUEUE_BYTES:
                self._left_out += lines.count(b"\n")
                return
            self._waiting.append(lines)
            self._bytes += len(lines)
            self._changed.notify()

    def close(self) -> None:
        """Print the waiting lines for at most a second, and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() + _CLOSE_S
            self._changed.notify()
        # `join` has a time-out, because a write to a terminal that the user has paused (Ctrl-S)
        # does not return.
        self._thread.join(2 * _CLOSE_S)
        self._report()

    def _print_all(self) -> None:
        while (lines := self._next()) is not None:
            for piece in _pieces(self._rendered(lines), self._piece):
                if not self._print(piece):
                    with self._changed:
                        self._left_out += piece.count(b"\n")
            self._report_sometimes()

    def _rendered(self, lines: bytes) -> bytes:
        """Render *lines*, or drop all of them if one is malformed."""
        try:
            return self._render(lines)
        except ValueError:
            with self._changed:
                self._left_out += lines.count(b"\n")
            return b""

    def _next(self) -> bytes | None:
        """Wait for lines and return them; return None after `close` if no line is waiting."""
        with self._changed:
            while not self._waiting:
                if self._deadline is not None:
                    return None
                self._changed.wait()
            lines = self._waiting.popleft()
            self._bytes -= len(lines)
            return lines

    def _print(self, piece: bytes) -> bool:
        """Write a piece when stdout has room; return False if a part could not be written."""
        left = memoryview(piece)
        while left:
            if not self._wait_for_room(len(left)):
                return False
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                time.sleep(_LONGEST_PAUSE_S)
            except OSError:  # The reader closed stdout. The appliance must continue to serve.
                return False
        return True

    def _wait_for_room(self, length: int) -> bool:
        """Wait until a write of *length* bytes would not block; return False at the deadline."""
        pause = _SHORTEST_PAUSE_S
        while not self._has_room(length):
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return True

    def _has_room(self, length: int) -> bool:
        """Return whether *length* bytes fit into the part of stdout's pipe for the access log.

        The rest of the pipe is for the log messages of the programs. A pipe consists of pages. A
        write that does not fit into the rest of the last page begins a new page. So in the worst
        case, the lines take twice their number of bytes in the pipe.
        """
        if not self._poll.poll(0):
            return False
        used = _bytes_in_pipe(self._descriptor) if self._capacity else 0
        return not used or used + length <= self._capacity // _SHARE

    def _report_sometimes(self) -> None:
        if self._left_out and time.monotonic() - self._reported >= _REPORT_S:
            self._report()

    def _report(self) -> None:
        with self._changed:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            self._reported = time.monotonic()
            _log.warning("access log lines were not printed", extra={"lines": left_out})
            self._on_left_out(left_out)


def _pieces(lines: bytes, most: int) -> list[bytes]:
    """Split *lines* at line ends into pieces of at most *most* bytes.

    A line that is longer becomes one piece.
    """
    pieces = []
    while lines:
        end = len(lines) if len(lines) <= most else lines.rfind(b"\n", 0, most) + 1
        end = end or lines.find(b"\n") + 1
        pieces.append(lines[:end])
        lines = lines[end:]
    return pieces


def _pipe_size(descriptor: int) -> int:
    """Return the capacity of a pipe in bytes; 0 for a file, a terminal or a socket."""
    with suppress(OSError):
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return 0


def _bytes_in_pipe(descriptor: int) -> int:
    answer = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
