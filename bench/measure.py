"""Makes single measurements: read the counters, do the work, wait for its end, read again."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.errors import BenchError, LoadFailed
from bench.figures import Sample
from bench.rows import ROUNDS, Work
from bench.server import Server
from bench.tree import spent
from bench.upstream import Log, summed


@dataclass(slots=True)
class Book:
    """All samples of a run by row and server.

    `failed` has the reason for each row that a server failed. After `most_s` seconds no sample is
    taken.
    """

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    most_s: float = math.inf

    @property
    def is_late(self) -> bool:
        """Return whether the time limit of the run has passed; then no further sample is taken."""
        return time.monotonic() - self.began > self.most_s

    def add(self, row: str, server: str, sample: Sample) -> None:
        """Add a sample of a row that a server has finished."""
        self.samples.setdefault(row, {}).setdefault(server, []).append(sample)

    def fail(self, row: str, server: str, error: BenchError) -> None:
        """Note and print the reason why a server failed a row."""
        self.failed.setdefault(row, {})[server] = str(error)
        self.report_progress(f"{row}: {server}: {error}")

    @property
    def rows(self) -> set[str]:
        """Return the rows that at least one server has finished or failed."""
        return {*self.samples, *self.failed}

    def has_failed(self, row: str, server: str) -> bool:
        """Return whether a server has failed a row already."""
        return server in self.failed.get(row, {})

    def has_samples(self, row: str, server: str) -> bool:
        """Return whether at least one sample of this row and server exists."""
        return server in self.samples.get(row, {})

    def report_progress(self, text: str) -> None:
        """Print what the run does now, with the elapsed time."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def measure(server: Server, work: Work, log: Log, *, about: str = "") -> Sample:
    """Measure *work* on a server: its CPU time, and what it fetched from the upstream.

    Only fetches whose URL path contains *about* count. Raises: BenchError.
    """
    tree = server.tree
    tree.settle()
    log.fresh()
    before = tree.cpu()
    outcome = work(server.address)
    tree.settle()
    return Sample(
        requests=outcome.requests,
        seconds=outcome.seconds,
        bytes=outcome.bytes,
        p99=outcome.p99,
        failures=outcome.failures,
        cpu=spent(before, tree.cpu()),
        fetches=summed(log.fresh(), about=about),
    )


def in_rounds(
    servers: Mapping[str, Server], works: Mapping[str, Work], book: Book, log: Log, *, rounds: int
) -> None:
    """Measure each work on all servers in turn, in *rounds* rounds, or in those of its row."""
    for number in range(max(rounds, *(ROUNDS.get(row, 0) for row in works))):
        for row, work in works.items():
            many = ROUNDS.get(row, rounds)
            if number >= many:
                continue
            book.report_progress(f"round {number + 1} of {many}: {row}")
            for name in turn(list(servers), number):
                attempt(row, name, book, partial(measure, servers[name], work, log))


def attempt(row: str, server: str, book: Book, act: Callable[[], Sample]) -> None:
    """Add the sample that *act* returns, or note its error.

    A server that has failed the row before is not measured again.
    """
    if book.has_failed(row, server):
        return
    if book.is_late:
        if not book.has_samples(row, server):
            book.fail(row, server, LoadFailed("not measured: the time of the run was over"))
        return
    try:
        book.add(row, server, act())
    except BenchError as error:
        book.fail(row, server, error)


def turn(names: Sequence[str], number: int) -> list[str]:
    """Return the servers' names in the order of a round; each round begins with another one."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
