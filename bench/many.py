"""Measure requests for sixty thousand small stored objects, a few of which are requested often.

The benchmark writes the data directory itself, because a pull of so many objects would take
minutes. The target limits the cost of a request, divided by the cost of a request to a second
appliance, whose HAProxy caches nothing. The second appliance gets requests for one manifest and its
blobs only. At both appliances, one request in six is for a manifest.
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
PARTS: Final = 5  # The number of blobs in each manifest.
_BLOB: Final = 1_000  # The size of each blob in bytes.
_REPOSITORY: Final = "library/many"
_SAMPLED: Final = 100_000  # The number of requests in the list that wrk sends over and over.
# In the comparison, the query strings of this many requests for each object differ; after that, the
# query strings repeat.
_REPEATED: Final = 4_000
_WARM_S: Final = 12
_SECONDS: Final = 4


@dataclass(frozen=True, slots=True)
class Store:
    """The digests of the stored manifests and blobs, in each list the most requested first."""

    manifests: Sequence[str]
    blobs: Sequence[str]

    def sampled(self, address: ServerAddress, seed: int) -> Iterator[str]:
        """Yield the URL paths to request: a random manifest, then `PARTS` random blobs, and so on.

        The probability of a request for the object at position n of its list is proportional to
        1/n.
        """
        chance = random.Random(seed)
        wanted = _zipf(chance, self.manifests, _SAMPLED // (PARTS + 1))
        blobs = _zipf(chance, self.blobs, _SAMPLED)
        for each in wanted:
            yield address.manifest(_REPOSITORY, each)
            for _ in range(PARTS):
                yield address.blob(_REPOSITORY, next(blobs))

    def plain(self, address: ServerAddress) -> Iterator[str]:
        """Yield the URL paths of one manifest and its blobs, for the comparison.

        Each path has a different query string. Otherwise a worker would send the response that it
        remembers for an equal request.
        """
        paths = [address.manifest(_REPOSITORY, self.manifests[0])]
        paths += [address.blob(_REPOSITORY, each) for each in self.blobs[:PARTS]]
        for number in range(_REPEATED):
            yield from (f"{path}?number={number}" for path in paths)


def many(site: Site, book: Book, rounds: int) -> None:
    """Measure the row only for Entrepot, because the benchmark writes its data directory."""
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
    """Measure one round; the sample also has its cost divided by the cost of the comparison."""

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
    """Write *manifests* images into a new data directory; return their digests."""
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
