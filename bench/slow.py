"""Measure a server while a thousand clients read slowly and one more requests a manifest."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bench import load, rows
from bench.address import ServerAddress
from bench.content import LARGE, Image
from bench.errors import LoadFailed
from bench.figures import PSS, Sample
from bench.kinds import ROOT
from bench.load import Outcome, module_words
from bench.measure import Book, attempt
from bench.server import TETHER, Server
from bench.tree import Memory, spent, total

ROW = "slow-readers"
_MB = 10**6
_BEGIN_WITHIN_S = 60.0
_LONGEST_S = 60
_ASK_S = 2
_WORKERS = "registry"  # `bench.tree` gives this role to the appliance's workers


def slow_rows(servers: Mapping[str, Server], image: Image, book: Book, rounds: int) -> None:
    """Measure the row on each server, one after the other, each with new slow readers."""
    for name, server in servers.items():
        book.report_progress(f"{ROW}: {name}")
        attempt(ROW, name, book, lambda: _sample(server, image, rounds))  # noqa: B023 - at once


def _sample(server: Server, image: Image, rounds: int) -> Sample:
    """Measure a server first without slow readers, then with them. Raises: LoadFailed."""
    path = server.address.manifest(image.repository, image.digest)
    server.tree.settle()
    idle = _requested(server.address, path, rounds)
    with _readers(server.address, image) as reading:
        memory, before = server.tree.memory(), server.tree.cpu()
        loaded = _requested(server.address, path, rounds)
        cpu = spent(before, server.tree.cpu())
    return Sample(
        requests=loaded.requests,
        seconds=loaded.seconds,
        p99=loaded.p99,
        failures=idle.failures + loaded.failures + rows.SLOW_CLIENTS - reading,
        cpu=cpu,
        more={
            "clients that got an answer": reading,
            "p99 idle us": idle.p99 * 1e6,
            "p99 times idle": loaded.p99 / idle.p99 if idle.p99 else 0.0,
            PSS: total(memory).pss / _MB,
            "MB RSS": total(memory).rss / _MB,
            "MB a worker": max(worker.rss for worker in _workers(memory)) / _MB,
        },
    )


def _workers(memory: Mapping[str, list[Memory]]) -> list[Memory]:
    """Return the memory of the appliance's workers, or of all processes of another server."""
    return memory.get(_WORKERS) or [each for many in memory.values() for each in many]


def _requested(address: ServerAddress, path: str, rounds: int) -> Outcome:
    """Request a manifest at a steady rate in several runs; return the run with the median p99."""
    each = [load.paced(address, path, rate=rows.PACE, seconds=_ASK_S) for _ in range(rounds)]
    middle = sorted(each, key=lambda one: one.p99)[len(each) // 2]
    return replace(
        middle,
        requests=sum(one.requests for one in each),
        seconds=sum(one.seconds for one in each),
        failures=sum(one.failures for one in each),
    )


@contextmanager
def _readers(address: ServerAddress, image: Image) -> Iterator[int]:
    """Start the slow readers; yield how many of them got a response. Raises: LoadFailed."""
    task = {
        "port": address.port,
        "path": address.blob(image.repository, image.blob(LARGE)),
        "headers": address.headers(),
        "clients": rows.SLOW_CLIENTS,
        "rate": rows.SLOW_RATE,
        "longest": _LONGEST_S,
    }
    words = [*TETHER, *module_words("bench.slow_load", task)]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as readers:
        try:
            yield _begun(readers)
        finally:
            _end(readers)


def _begun(readers: subprocess.Popen[str]) -> int:
    if readers.stdout is None or not select.select([readers.stdout], [], [], _BEGIN_WITHIN_S)[0]:
        raise LoadFailed("the slow readers did not start in time")
    line = readers.stdout.readline()
    if not line:
        raise LoadFailed("the slow readers could not connect")
    return int(json.loads(line)["reading"])


def _end(readers: subprocess.Popen[str]) -> None:
    try:
        readers.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        readers.kill()
