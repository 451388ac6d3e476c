"""HAProxy sends one log line per response through a pipe to `serve`, which stores them.

HAProxy does not block: it drops a line when the pipe is full. So the pipe is large.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.run_names import LOG_PIPE

BYTES = 1024 * 1024
"""The pipe has this capacity, where the system allows it: the maximum for a plain user."""


def create(run: Path) -> int:
    """Create the pipe, and return its reading end, in non-blocking mode."""
    path = run / LOG_PIPE
    os.mkfifo(path, 0o600)
    # O_RDWR: with a writer of its own, the reader never sees an end of file
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    with suppress(OSError):  # the user's pages for pipes are used up: the pipe stays small
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, BYTES)
    return reader


def redirect(run: Path, descriptor: int) -> None:
    """Make *descriptor* the pipe's writing end. Raises: OSError if it has no reader."""
    writer = os.open(run / LOG_PIPE, os.O_WRONLY | os.O_NONBLOCK)
    os.dup2(writer, descriptor)
    os.close(writer)
