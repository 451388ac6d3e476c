"""Errors of the benchmark.

BenchError
├── Unusable       a program, the path of a peer's program, or disk space is missing
├── ServerFailed   a server did not start, or exited during the run
└── LoadFailed     requests failed: wrong responses, broken connections, a timeout
"""

from __future__ import annotations


class BenchError(Exception):
    """An error with a message for the person who runs the benchmark."""


class Unusable(BenchError):  # noqa: N818 - the name states the fact
    """A program, the path of a peer's program, or disk space is missing."""


class ServerFailed(BenchError):  # noqa: N818
    """A server did not start, or exited during the run."""


class LoadFailed(BenchError):  # noqa: N818
    """Requests failed: wrong responses, broken connections, or a timeout."""
