"""Runs Python programs as processes, for tests that kill one or need several."""

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
    """Start *program* (Python source code, which can import the project); kill it at the end.

    *arguments* become `sys.argv[1:]` of the process. The program prints a line after each of its
    steps, and the test waits for this line with `next_line`.
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
    """Wait for the next line that the process prints; return "" if it has exited."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(program: str, *arguments: object, within: float = 30) -> str:
    """Run *program* for at most *within* seconds, assert exit code 0, and return its output."""
    with running(program, *arguments) as process:
        printed, _ = process.communicate(timeout=within)
        assert process.returncode == 0
        return printed
