"""Errors of the benchmark.

BenchError
├── Unusable       a program, a path of a peer, or disk space is missing
├── ServerFailed   a server did not start, or ended
└── LoadFailed     the work was not done: wrong responses, broken connections, a timeout
"""

from __future__ import annotations


class BenchError(Exception):
    """An error with a message for the person who runs the benchmark."""


class Unusable(BenchError):  # noqa: N818 - a fact, as everywhere in this project
    """A program, a path of a peer, or disk space is missing."""


class ServerFailed(BenchError):  # noqa: N818
    """A server did not start, or ended."""


class LoadFailed(BenchError):  # noqa: N818
    """The work was not done: wrong responses, broken connections, or a timeout."""
