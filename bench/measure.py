"""One measurement: look, work, wait until all of it is done, look again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.errors import BenchError
from bench.figures import Sample
from bench.rows import Work
from bench.server import Server
from bench.tree import spent
from bench.upstream import Log, summed


@dataclass(slots=True)
class Book:
    """All samples, by row and server; a row that could not be done has its reason in `failed`."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, row: str, server: str, sample: Sample) -> None:
        """Keep a sample."""
        self.samples.setdefault(row, {}).setdefault(server, []).append(sample)

    def fail(self, row: str, server: str, error: BenchError) -> None:
        """Keep the reason why a server could not do a row."""
        self.failed.setdefault(row, {})[server] = str(error)
        self.say(f"{row}: {server}: {error}")

    @property
    def rows(self) -> set[str]:
        """Return the rows that were tried."""
        return {*self.samples, *self.failed}

    def has_failed(self, row: str, server: str) -> bool:
        """Whether it is of no use to try again."""
        return server in self.failed.get(row, {})

    def say(self, text: str) -> None:
        """Tell whoever waits what is going on."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def measure(server: Server, work: Work, log: Log, *, about: str = "") -> Sample:
    """Do the work once; fetches count where their target names *about*. Raises: BenchError."""
    tree = server.tree
    tree.settle()
    log.fresh()
    before = tree.cpu()
    outcome = work(server.door)
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
    """Do all works on all servers in turn, and all of that several times."""
    for number in range(rounds):
        for row, work in works.items():
            book.say(f"round {number + 1} of {rounds}: {row}")
            for name in turn(list(servers), number):
                attempt(row, name, book, partial(measure, servers[name], work, log))


def attempt(row: str, server: str, book: Book, act: Callable[[], Sample]) -> None:
    """Keep what an act measures, or why it could not; what has failed once is not tried again."""
    if book.has_failed(row, server):
        return
    try:
        book.add(row, server, act())
    except BenchError as error:
        book.fail(row, server, error)


def turn(names: Sequence[str], number: int) -> list[str]:
    """Return the names with another one first each time."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
