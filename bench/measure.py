"""Make one measurement: read counters, do the work, wait until it is finished, read again."""

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
    """A `Book` has all samples of the benchmark by row and server.

    `failed` has the reason for each row of a server that failed. The run takes no sample after
    `most_s` seconds.
    """

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    most_s: float = math.inf

    @property
    def is_late(self) -> bool:
        """Return whether the time of the run is over, so that no further sample is taken."""
        return time.monotonic() - self.began > self.most_s

    def add(self, row: str, server: str, sample: Sample) -> None:
        """Add a sample."""
        self.samples.setdefault(row, {}).setdefault(server, []).append(sample)

    def fail(self, row: str, server: str, error: BenchError) -> None:
        """Record the reason why a server failed a row."""
        self.failed.setdefault(row, {})[server] = str(error)
        self.report_progress(f"{row}: {server}: {error}")

    @property
    def rows(self) -> set[str]:
        """Return the rows that were measured or failed."""
        return {*self.samples, *self.failed}

    def has_failed(self, row: str, server: str) -> bool:
        """Return whether a server has failed a row already."""
        return server in self.failed.get(row, {})

    def has_samples(self, row: str, server: str) -> bool:
        """Return whether a row of a server was measured already."""
        return server in self.samples.get(row, {})

    def report_progress(self, text: str) -> None:
        """Print a line of progress with the elapsed time."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def measure(server: Server, work: Work, log: Log, *, about: str = "") -> Sample:
    """Do one measurement; count the upstream's fetches whose target contains *about*.

    Raises: BenchError.
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
    """Measure each work on all servers in turn, in several rounds, and some rows in more rounds."""
    for number in range(max(rounds, *(ROUNDS.get(row, 0) for row in works))):
        for row, work in works.items():
            many = ROUNDS.get(row, rounds)
            if number >= many:
                continue
            book.report_progress(f"round {number + 1} of {many}: {row}")
            for name in turn(list(servers), number):
                attempt(row, name, book, partial(measure, servers[name], work, log))


def attempt(row: str, server: str, book: Book, act: Callable[[], Sample]) -> None:
    """Add the sample of a measurement, or its error.

    Skip a server that has failed the row already.
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
    """Return the names of the servers rotated by the number of the round."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
