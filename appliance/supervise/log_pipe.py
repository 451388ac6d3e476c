"""Send one log line per response from HAProxy through a pipe to `serve`, which stores the lines.

Each thread of HAProxy has a pipe of its own, because HAProxy drops a line if two threads write to
the same pipe at the same moment. HAProxy does not block, but drops a line when the pipe is full.
Therefore the pipe for log lines is large.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.run_names import LOG_PIPES

BYTES = 1024 * 1024
"""The capacity of the pipe, which is the maximum for a plain user; some systems allow less."""


def create(run: Path, thread: int = 1) -> int:
    """Create the pipe of a thread, and return its reading end, in non-blocking mode."""
    path = run / LOG_PIPES[thread - 1]
    os.mkfifo(path, 0o600)
    # O_RDWR makes this process a writer too, so that a read never reports the end of the pipe while
    # HAProxy does not have it open.
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    # If the user's pipes have no pages left (pipe(7)), the log pipe keeps its default size.
    with suppress(OSError):
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, BYTES)
    return reader


def redirect(run: Path, descriptor: int, thread: int = 1) -> None:
    """Make *descriptor* the writing end of the pipe of a thread.

    Raises: OSError if the pipe has no reader.
    """
    writer = os.open(run / LOG_PIPES[thread - 1], os.O_WRONLY | os.O_NONBLOCK)
    os.dup2(writer, descriptor)
    os.close(writer)
