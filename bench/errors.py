"""What can go wrong in a benchmark.

BenchError
├── Unusable       something that must be here is not: a program, a peer's path, room
├── ServerFailed   a server did not come up, or went away
└── LoadFailed     the work was not done: wrong answers, broken connections, no end in time
"""

from __future__ import annotations


class BenchError(Exception):
    """A sentence for whoever ran the benchmark."""


class Unusable(BenchError):  # noqa: N818 - a fact, as everywhere in this project
    """Something that must be here is not."""


class ServerFailed(BenchError):  # noqa: N818
    """A server did not come up, or went away."""


class LoadFailed(BenchError):  # noqa: N818
    """The work was not done as it was asked for."""
