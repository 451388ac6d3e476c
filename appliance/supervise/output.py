"""Copy the output of the programs to stdout, line by line, and keep the last lines of each program.

supervisord writes each program's output into a named pipe in the run directory, and a thread of
`serve` reads the pipes. So only `serve` writes to stdout, which can be a terminal, a file, a pipe
or a socket of journald. If a program keeps exiting, `serve` logs the program's last lines.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_CHUNK = 65536  # The largest number of bytes in one read.
_KEPT = 20  # The number of remembered lines of each program.
_LONGEST = 1024 * 1024  # A line of more bytes is copied in pieces.

Reader = Callable[[str], None]


class _Pipe:
    """A `_Pipe` is the pipe with the output of one program, from which complete lines are read."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        # With O_RDWR this process is also a writer of the pipe. Otherwise a read would report the
        # end of the pipe while the program does not have it open.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._rest = b""

    def read(self) -> bytes:
        """Return the complete lines that have arrived; b"" if there is none."""
        try:
            self._rest += os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return b""
        complete, newline, rest = self._rest.rpartition(b"\n")
        if not newline and len(rest) < _LONGEST:
            return b""
        lines, self._rest = (complete + newline, rest) if newline else (rest + b"\n", b"")
        self.last.extend(lines.decode(errors="replace").splitlines())
        return lines

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.fd)


class Output:
    """An `Output` has the pipes of several programs, and a thread that reads them.

    *readers* maps each program to a function that gets the program's lines, or to None. If there is
    None for a program, its lines are copied unchanged to *target*, and *observer* gets them too.
    """

    def __init__(
        self,
        run: Path,
        readers: Mapping[str, Reader | None],
        target: BinaryIO,
        observer: Reader | None = None,
    ) -> None:
        self._observer = observer
        self._pipes = {name: _Pipe(run / f"{name}.out") for name in readers}
        self._readers = dict(readers)
        self._target = target
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)
        self._thread.start()

    def last(self, name: str) -> list[str]:
        """Return the last lines of a program, oldest first."""
        return list(self._pipes[name].last)

    def close(self) -> None:
        """Copy the remaining lines in the pipes, and end the thread."""
        os.write(self._waker, b".")
        self._thread.join()
        for name in self._pipes:
            while self._copy(name):
                pass
            self._pipes[name].close()
        os.close(self._wake)
        os.close(self._waker)

    def _pass_on(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for name, pipe in self._pipes.items():
                selector.register(pipe.fd, selectors.EVENT_READ, name)
            while True:
                ready = [key.data for key, _ in selector.select()]
                if None in ready:
                    return
                for name in ready:
                    self._copy(name)

    def _copy(self, name: str) -> bool:
        lines, reader = self._pipes[name].read(), self._readers[name]
        if reader is not None:
            for line in lines.decode(errors="replace").splitlines():
                reader(line)
        elif lines:
            # If the reader of stdout has closed it, the appliance must nevertheless continue to
            # serve.
            with suppress(OSError, ValueError):
                self._target.write(lines)
                self._target.flush()
            self._observe(lines)
        return bool(lines)

    def _observe(self, lines: bytes) -> None:
        if self._observer is not None:
            for line in lines.decode(errors="replace").splitlines():
                self._observer(line)
