"""Show the progress of a migration.

On a terminal, one line shows the current state. Otherwise a new line is printed every 10 s.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TextIO

from entrepot.appliance.migrate.stock import Count
from entrepot.cleaner.readable_units import size, span

_TERMINAL_S: Final = 0.5
_FILE_S: Final = 10.0
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """A `Progress` writes the progress to *stream*, in a thread that runs during its `with` block.

    Any thread may call the public methods.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._step = ""
        self._done, self._bytes = 0, 0
        self._total: Count | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._is_terminal:
            self._write(_CLEAR)

    def begin(self, step: str, total: Count | None = None) -> None:
        """Begin a step such as `blobs`; *total*, if known, is the amount that the step copies."""
        with self._lock:
            self._step, self._total = step, total
            self._done, self._bytes, self._began = 0, 0, time.monotonic()

    def moved(self, count: int) -> None:
        """Record that *count* bytes were read from the source."""
        with self._lock:
            self._bytes += count

    def done(self) -> None:
        """Count one blob or value of the step as done."""
        with self._lock:
            self._done += 1

    def line(self) -> str:
        """Return a line with the step and its current progress."""
        with self._lock:
            total, done, moved = self._total, self._done, self._bytes
            step, began = self._step, self._began
        if total is None:
            return f"{step}: {done}"
        rate = moved / max(time.monotonic() - began, 0.001)
        left = f", {span((total.size - moved) / rate)} left" if rate and moved < total.size else ""
        counts = f"{done} of {total.number}, {size(moved)} of {size(total.size)}"
        return f"{step}: {counts}, {size(int(rate))}/s{left}"

    def _run(self) -> None:
        while not self._ended.wait(_TERMINAL_S if self._is_terminal else _FILE_S):
            line = self.line()
            self._write(f"{_CLEAR}{line}" if self._is_terminal else f"{line}\n")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # The operator may have closed the terminal.
            self._stream.write(text)
            self._stream.flush()
