"""Runs Python programs in separate processes, for tests that kill one or need several."""

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
    """Start *program* with *arguments* in sys.argv and the project's packages; kill it at the end.

    The program prints a line at each step, for which the test waits with `next_line`.
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
    """Wait for the next line that a process prints; empty if it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(program: str, *arguments: object, within: float = 30) -> str:
    """Run *program* until it exits with 0, for at most *within* s, and return its output."""
    with running(program, *arguments) as process:
        printed, _ = process.communicate(timeout=within)
        assert process.returncode == 0
        return printed
