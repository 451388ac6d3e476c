"""Measure how much later a cache sends the first byte of a cold blob than the upstream does."""

from __future__ import annotations

import random

from bench import rows
from bench.cold import fresh, in_turn
from bench.content import SMALL, digest_of
from bench.figures import Sample
from bench.kinds import Kind
from bench.load import run_module
from bench.measure import Book, attempt, measure
from bench.site import Site
from bench.upstream import push_blob

_REPOSITORY = "library/first"


def first(site: Site, book: Book, rounds: int) -> None:
    """Measure small cold blobs with empty servers in each round.

    No manifest lists the blobs, so that no server can fetch them before a client requests them.
    """
    chance = random.Random(_REPOSITORY)
    blobs = [chance.randbytes(SMALL) for _ in range(rows.FIRST_BLOBS)]
    for blob in blobs:
        push_blob(site.upstream.address, _REPOSITORY, blob)
    digests = [digest_of(blob) for blob in blobs]
    for number in range(rounds):
        book.report_progress(f"round {number + 1} of {rounds}: cold-first")
        for kind in in_turn(site, number):
            attempt("cold-first", kind.name, book, lambda: _sample(site, kind, digests))  # noqa: B023 - at once


def _sample(site: Site, kind: Kind, digests: list[str]) -> Sample:
    upstream = site.upstream.address
    with fresh(kind, site.plain()) as server:
        address = server.address
        task = {
            "port": address.port,
            "upstream": upstream.port,
            "paths": [address.blob(_REPOSITORY, each) for each in digests],
            "theirs": [upstream.blob(_REPOSITORY, each) for each in digests],
            "headers": address.headers(),
            "size": SMALL,
        }
        return measure(server, lambda _: run_module("bench.first_load", task), site.log)
