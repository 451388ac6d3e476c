"""Python programs in processes of their own, for what must survive one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).parent.parent


@contextmanager
def running(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start *program*, which finds our packages and *arguments* in sys.argv; kill it at the end.

    A line that it prints is a step that the test may wait for with `readline`.
    """
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that a process prints; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(program: str, *arguments: object, within: float = 30) -> str:
    """Run *program* to its good end, *within* so many s, and return what it printed."""
    with running(program, *arguments) as process:
        printed, _ = process.communicate(timeout=within)
        assert process.returncode == 0
        return printed
