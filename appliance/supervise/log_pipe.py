"""Create the pipes through which HAProxy sends its log lines to `serve`, which stores them.

There is one pipe for each thread of HAProxy, because HAProxy drops a line if two threads write to
the same pipe at the same moment. HAProxy also drops a line if the pipe is full, so each pipe is
large.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.run_names import LOG_PIPES

BYTES = 1024 * 1024
"""The capacity of a pipe in bytes. It is the default maximum for users other than root."""


def create(run: Path, thread: int = 1) -> int:
    """Create the pipe of a thread of HAProxy, and return its reading end, in non-blocking mode."""
    path = run / LOG_PIPES[thread - 1]
    os.mkfifo(path, 0o600)
    # With O_RDWR this process is also a writer of the pipe. Otherwise a read would report the end
    # of the pipe while HAProxy does not have it open.
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    # If the pipes of this user already have too many pages (pipe(7)), the pipe keeps its default
    # size.
    with suppress(OSError):
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, BYTES)
    return reader


def redirect(run: Path, descriptor: int, thread: int = 1) -> None:
    """Open the writing end of a thread's pipe at the file descriptor *descriptor*.

    Raises: OSError if no process reads from the pipe.
    """
    writer = os.open(run / LOG_PIPES[thread - 1], os.O_WRONLY | os.O_NONBLOCK)
    os.dup2(writer, descriptor)
    os.close(writer)
