"""Measure one row on one server: read counters, send requests, and read the counters again."""

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

    `failed` has the reason of each failure, by row and server. Once the run has taken `most_s`
    seconds, no more samples are taken.
    """

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    most_s: float = math.inf

    @property
    def is_late(self) -> bool:
        """Return whether the time limit of the run has passed."""
        return time.monotonic() - self.began > self.most_s

    def add(self, row: str, server: str, sample: Sample) -> None:
        """Add a sample of a row on a server."""
        self.samples.setdefault(row, {}).setdefault(server, []).append(sample)

    def fail(self, row: str, server: str, error: BenchError) -> None:
        """Record and print why the measurement of a row failed on a server."""
        self.failed.setdefault(row, {})[server] = str(error)
        self.report_progress(f"{row}: {server}: {error}")

    @property
    def rows(self) -> set[str]:
        """Return the rows that were measured, or failed, on at least one server."""
        return {*self.samples, *self.failed}

    def has_failed(self, row: str, server: str) -> bool:
        """Return whether the measurement of a row has already failed on a server."""
        return server in self.failed.get(row, {})

    def has_samples(self, row: str, server: str) -> bool:
        """Return whether at least one sample of this row and server exists."""
        return server in self.samples.get(row, {})

    def report_progress(self, text: str) -> None:
        """Print *text*, which describes the next step of the run, with the elapsed time."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def measure(server: Server, work: Work, log: Log, *, about: str = "") -> Sample:
    """Run *work* against a server; return the server's CPU time and its requests to the upstream.

    Only requests to the upstream whose URL path contains *about* count. Raises: BenchError.
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
    """Measure each row on one server after the other, in several rounds.

    A row has *rounds* rounds, unless `ROUNDS` states another number for it.
    """
    for number in range(max(rounds, *(ROUNDS.get(row, 0) for row in works))):
        for row, work in works.items():
            many = ROUNDS.get(row, rounds)
            if number >= many:
                continue
            book.report_progress(f"round {number + 1} of {many}: {row}")
            for name in turn(list(servers), number):
                attempt(row, name, book, partial(measure, servers[name], work, log))


def attempt(row: str, server: str, book: Book, act: Callable[[], Sample]) -> None:
    """Add the sample that *act* returns, or record its error.

    If this row has failed on this server in an earlier round, or if the time limit of the run has
    passed, do not call *act*.
    """
    if book.has_failed(row, server):
        return
    if book.is_late:
        if not book.has_samples(row, server):
            book.fail(row, server, LoadFailed("not measured, because the time limit passed"))
        return
    try:
        book.add(row, server, act())
    except BenchError as error:
        book.fail(row, server, error)


def turn(names: Sequence[str], number: int) -> list[str]:
    """Return the servers' names in the order of round *number*.

    Each round begins with a different server.
    """
    start = number % len(names)
    return [*names[start:], *names[:start]]
