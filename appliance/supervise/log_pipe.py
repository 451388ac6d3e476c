"""The pipe between HAProxy, which writes a line an answer, and `serve`, which keeps them.

HAProxy waits for nobody: a line that finds the pipe full is dropped, so the pipe is large.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

BYTES = 1024 * 1024
"""What it holds if there is room: as much as a plain user may ask for."""
_NAME = "access.pipe"


def make(run: Path) -> int:
    """Make it, and return its reading end, which does not block."""
    path = run / _NAME
    os.mkfifo(path, 0o600)
    # open for writing too: the pipe has no end while we read it
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    with suppress(OSError):  # this user has no pages to spare for pipes: then it is small
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, BYTES)
    return reader


def write_as(run: Path, descriptor: int) -> None:
    """Make *descriptor* its writing end. Raises: OSError, without a reader."""
    writer = os.open(run / _NAME, os.O_WRONLY | os.O_NONBLOCK)
    os.dup2(writer, descriptor)
    os.close(writer)
