"""Measure cold requests: in each round the servers start with an empty cache."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from bench import load, rows
from bench.address import ServerAddress
from bench.content import LARGE
from bench.errors import LoadFailed
from bench.figures import Sample
from bench.kinds import ROOT, Kind, Plan
from bench.load import module_words
from bench.measure import Book, attempt, measure, turn
from bench.server import TETHER, Server
from bench.site import Site
from bench.stages import caches
from bench.targets import DIRECT
from bench.upstream import summed


def clients(site: Site, book: Book, rounds: int) -> None:
    """Measure a cold blob that one client requests, then a cold blob that many request at once."""
    for number in range(rounds):
        for row, many in (("cold-one", 1), ("cold-clients", rows.COLD_CLIENTS)):
            book.report_progress(f"round {number + 1} of {rounds}: {row}")
            for kind in in_turn(site, number):
                attempt(row, kind.name, book, partial(_clients, site, kind, many))


def line(site: Site, book: Book, rounds: int) -> None:
    """Measure a pull over the simulated line: first from the upstream, then through each cache."""
    with simulated(site.upstream.address.port) as port:
        for number in range(rounds):
            book.report_progress(f"round {number + 1} of {rounds}: cold-line")
            attempt("cold-line", DIRECT, book, lambda: _direct(site, port))
            for kind in in_turn(site, number):
                attempt("cold-line", kind.name, book, lambda: _pulled(site, kind, port))  # noqa: B023 - at once


@contextmanager
def simulated(to: int) -> Iterator[int]:
    """Start a proxy to loopback port *to* that simulates a slow line; yield the proxy's port."""
    task = {"to": to, "rate": rows.LINE_RATE, "round_trip": rows.ROUND_TRIP}
    words = [*TETHER, *module_words("bench.line", task)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (port := process.stdout.readline()):
                raise LoadFailed("the simulated line did not start")
            yield int(json.loads(port))
        finally:
            process.terminate()


def _clients(site: Site, kind: Kind, many: int) -> Sample:
    digest = site.app.blob(LARGE)
    with fresh(kind, site.plain()) as server:
        sample = measure(
            server,
            lambda address: rows.large(address, site.app, many, 1),
            site.log,
            about=digest,
        )
    times = sample.fetches.sent / LARGE
    return replace(sample, more={"fetched times": times, "fetched GETs": sample.fetches.gets})


def _pulled(site: Site, kind: Kind, port: int) -> Sample:
    plan = site.plain(ServerAddress(port).url(""))
    with fresh(kind, plan) as server:
        return measure(server, lambda address: load.pull(address, site.large.repository), site.log)


def _direct(site: Site, port: int) -> Sample:
    site.log.fresh()
    outcome = load.pull(ServerAddress(port), site.large.repository)
    return Sample(
        outcome.requests, outcome.seconds, outcome.bytes, fetches=summed(site.log.fresh())
    )


@contextmanager
def fresh(kind: Kind, plan: Plan) -> Iterator[Server]:
    """Start a server with an empty folder, and yield it."""
    with Server(kind.launch(plan)) as server:
        yield server


def in_turn(site: Site, number: int) -> list[Kind]:
    """Return the caches in the order of this round; each round begins with a different one."""
    known = {kind.name: kind for kind in caches(site)}
    return [known[name] for name in turn(list(known), number)]
