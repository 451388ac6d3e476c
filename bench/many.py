"""Measures requests for many small stored objects, some of which are requested often.

The data directory is written directly, because a pull of sixty thousand objects would take minutes.
The result is divided by the cost of one manifest and its blobs, requested in the same proportion
from an appliance whose HAProxy caches nothing.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench import load, rows
from bench.address import ServerAddress
from bench.content import digest_of, manifest_of
from bench.errors import BenchError
from bench.figures import Sample
from bench.kinds import NAME, OURS, Kind
from bench.measure import Book, attempt, measure
from bench.server import Server
from bench.site import Site
from bench.targets import PLAIN_HIT
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository

ROW: Final = "many"
MANIFESTS: Final = 10_000
PARTS: Final = 5  # blobs in each manifest
_BLOB: Final = 1_000  # the size of each blob in bytes
_REPOSITORY: Final = "library/many"
_SAMPLED: Final = 100_000  # requests in the list that wrk repeats, in its order
# The comparison requests each object this often with different queries, before a query is repeated.
_REPEATED: Final = 4_000
_WARM_S: Final = 12
_SECONDS: Final = 4


@dataclass(frozen=True, slots=True)
class Store:
    """The stored manifests and blobs; each list is in order of rank, the most requested first."""

    manifests: Sequence[str]
    blobs: Sequence[str]

    def sampled(self, address: ServerAddress, seed: int) -> Iterator[str]:
        """Yield paths to request: `PARTS` blobs for each manifest.

        The probability of the object with rank n is proportional to 1/n.
        """
        chance = random.Random(seed)
        wanted = _zipf(chance, self.manifests, _SAMPLED // (PARTS + 1))
        blobs = _zipf(chance, self.blobs, _SAMPLED)
        for each in wanted:
            yield address.manifest(_REPOSITORY, each)
            for _ in range(PARTS):
                yield address.blob(_REPOSITORY, next(blobs))

    def plain(self, address: ServerAddress) -> Iterator[str]:
        """Yield the paths of one manifest and of its blobs, for the comparison.

        The requests differ in their query, because a worker would answer an equal request with a
        remembered response.
        """
        paths = [address.manifest(_REPOSITORY, self.manifests[0])]
        paths += [address.blob(_REPOSITORY, each) for each in self.blobs[:PARTS]]
        for number in range(_REPEATED):
            yield from (f"{path}?number={number}" for path in paths)


def many(site: Site, book: Book, rounds: int) -> None:
    """Measure only the appliance, because the data directory has the appliance's own format."""
    kind = next(each for each in site.kinds if each.name == OURS)
    try:
        with ExitStack() as stack:
            _measure(site, book, kind, stack, rounds)
    except BenchError as error:
        book.fail(ROW, OURS, error)


def _measure(site: Site, book: Book, kind: Kind, stack: ExitStack, rounds: int) -> None:
    plans = [site.plain(), replace(site.plain(), has_edge_cache=False)]
    book.report_progress(f"{ROW}: writing {MANIFESTS:,} images")
    store = write(plans[0].folder / "data", MANIFESTS)
    shutil.copytree(plans[0].folder / "data", plans[1].folder / "data", copy_function=os.link)
    servers = [stack.enter_context(Server(kind.launch(plan))) for plan in plans]
    book.report_progress(f"{ROW}: the first requests")
    for server in servers:
        server.tree.settle(within=60)
        _requested(server.address, store.sampled(server.address, 0), plans[0].folder, _WARM_S)
    for number in range(rounds):
        book.report_progress(f"round {number + 1} of {rounds}: {ROW}")
        attempt(ROW, OURS, book, partial(_sample, site, servers, store, number))


def _sample(site: Site, servers: Sequence[Server], store: Store, number: int) -> Sample:
    """Measure one round, with the ratio of its cost to that of a worker for one manifest."""

    def zipf(address: ServerAddress) -> load.Outcome:
        return _requested(address, store.sampled(address, number + 1), site.folder, _SECONDS)

    def plain(address: ServerAddress) -> load.Outcome:
        return _requested(address, store.plain(address), site.folder, _SECONDS)

    sample = measure(servers[0], zipf, site.log)
    cost = _us(measure(servers[1], plain, site.log))
    return replace(sample, more={"us a plain hit": cost, PLAIN_HIT: _us(sample) / cost})


def _us(sample: Sample) -> float:
    return sum(sample.cpu.values()) * 1e6 / max(sample.requests, 1)


def _requested(
    address: ServerAddress, paths: Iterator[str], folder: Path, seconds: int
) -> load.Outcome:
    file = folder / "paths.txt"
    file.write_text("".join(f"{path}\n" for path in paths))
    return load.get_paths(address, file, connections=rows.MANY_CONNECTIONS, seconds=seconds)


def _zipf(chance: random.Random, names: Sequence[str], many: int) -> Iterator[str]:
    weights = itertools.accumulate(1 / rank for rank in range(1, len(names) + 1))
    return iter(chance.choices(names, cum_weights=list(weights), k=many))


def write(root: Path, manifests: int) -> Store:
    """Write images into a new data directory; return the names of their parts in order of rank."""
    chance = random.Random(_REPOSITORY)
    name = Repository.parse(f"{NAME}/{_REPOSITORY}")
    found: list[tuple[str, list[str]]] = []
    for _ in range(manifests):
        blobs = [chance.randbytes(_BLOB) for _ in range(PARTS)]
        manifest = manifest_of(blobs[0], blobs[1:])
        for content, link in [
            (manifest, layout.revision_link),
            *((b, layout.layer_link) for b in blobs),
        ]:
            digest = Digest.of(content)
            _write(root, layout.blob(digest), content)
            _write(root, link(name, digest), str(digest).encode())
        found.append((digest_of(manifest), [digest_of(blob) for blob in blobs]))
    _write(root, layout.origin(name), NAME.encode())
    flat = [blob for _, blobs in found for blob in blobs]
    chance.shuffle(flat)
    return Store([manifest for manifest, _ in found], flat)


def _write(root: Path, key: str, content: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
