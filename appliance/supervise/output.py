"""What the programs print: passed on to our stdout line by line, the last of it kept.

supervisord writes each program's output into a named pipe of the run directory. A terminal, a
file, a pipe and a journal's socket are all the same to it then, and when a program gives up, its
last words are known.
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

_CHUNK = 65536  # bytes
_KEPT = 20  # lines
_LONGEST = 1024 * 1024  # bytes; what is longer is passed on in pieces

Reader = Callable[[str], None]


class _Pipe:
    """One program's pipe: whole lines leave it, the end of them is kept."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        # open for writing too: the pipe has no end while we read it
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._rest = b""

    def read(self) -> bytes:
        """Return the whole lines that have come, b"" when there are none."""
        try:
            self._rest += os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return b""
        whole, newline, rest = self._rest.rpartition(b"\n")
        if not newline and len(rest) < _LONGEST:
            return b""
        lines, self._rest = (whole + newline, rest) if newline else (rest + b"\n", b"")
        self.last.extend(lines.decode(errors="replace").splitlines())
        return lines

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self.fd)


class Output:
    """The pipes of several programs, read by a thread.

    *readers* has for each program what takes its lines; None: they go to *target* as they are.
    """

    def __init__(self, run: Path, readers: Mapping[str, Reader | None], target: BinaryIO) -> None:
        self._pipes = {name: _Pipe(run / f"{name}.out") for name in readers}
        self._readers = dict(readers)
        self._target = target
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)
        self._thread.start()

    def last(self, name: str) -> list[str]:
        """Return the last lines of a program, the latest last."""
        return list(self._pipes[name].last)

    def close(self) -> None:
        """Pass on what is still in the pipes, and end."""
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
            with suppress(OSError, ValueError):  # nobody reads us any more: serve all the same
                self._target.write(lines)
                self._target.flush()
        return bool(lines)
