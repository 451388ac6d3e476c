"""Run the stages of the benchmark, which start and measure servers, and then terminate them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bench import rows
from bench.address import ServerAddress
from bench.content import Image
from bench.errors import BenchError, LoadFailed
from bench.figures import PSS, Sample
from bench.kinds import OURS, Kind, Plan
from bench.load import manifest_headers
from bench.measure import Book, in_rounds
from bench.server import Server
from bench.site import Site
from bench.slow import slow_rows
from bench.tree import spent, total

_MB = 10**6
_IDLE_S = 60.0
_CHECKS = 9


def warm(site: Site, book: Book, rounds: int) -> None:
    """Measure the rows of a warm cache, and before and after them the memory of idle servers."""
    works = rows.warm(site.app)
    needed_by = ("start", "memory", "healthy", *works)
    with running(site, site.plain, book, needed_by) as servers:
        _start(servers, book)
        _memory("memory", servers, book)
        if OURS in servers:
            _healthy(servers[OURS], book)
        _idle(servers, book)
        warmed = _warmed(servers, site.app, book, tuple(works))
        in_rounds(warmed, works, book, site.log, rounds=rounds)
        _memory("memory-after", warmed, book)
        slow_rows(warmed, site.app, book, rounds)


def login(site: Site, book: Book, rounds: int) -> None:
    """Measure the rows whose clients send a password."""
    _with_password(site, book, rounds, rows.login(site.app))


def tag_with_password(site: Site, book: Book, rounds: int) -> None:
    """Measure requests by tag with a password; the rows with tokens are compared with this row."""
    _with_password(site, book, rounds, rows.tag_login(site.app))


def _with_password(site: Site, book: Book, rounds: int, works: Mapping[str, rows.Work]) -> None:
    measure_warm(site, site.login, works, book, rounds)


def tls(site: Site, book: Book, rounds: int) -> None:
    """Measure the rows whose clients use TLS."""
    measure_warm(site, site.tls, rows.tls(site.app), book, rounds)


def measure_warm(
    site: Site, plan: Callable[[], Plan], works: Mapping[str, rows.Work], book: Book, rounds: int
) -> None:
    """Start servers by *plan*, pull the image into their caches, and measure the rows *works*."""
    with warmed(site, plan, book, tuple(works)) as servers:
        in_rounds(servers, works, book, site.log, rounds=rounds)


@contextmanager
def warmed(
    site: Site,
    plan: Callable[[], Plan],
    book: Book,
    needed_by: tuple[str, ...],
    names: Collection[str] | None = None,
) -> Iterator[dict[str, Server]]:
    """Start the servers in *names*, or all, and pull the image into each cache; yield the servers.

    If a server fails, it counts as failed in the rows *needed_by*.
    """
    with running(site, plan, book, needed_by, names) as servers:
        yield _warmed(servers, site.app, book, needed_by)


def microseconds(sample: Sample) -> float:
    """Return the mean CPU time of a request in a sample (us)."""
    return sum(sample.cpu.values()) * 1e6 / max(sample.requests, 1)


def worker(site: Site, book: Book, rounds: int) -> None:
    """Measure the row whose requests workers answer, because HAProxy caches nothing."""
    plan = lambda: replace(site.plain(), has_edge_cache=False)  # noqa: E731 - it makes a new folder
    measure_warm(site, plan, rows.from_worker(site.app), book, rounds)


@contextmanager
def running(
    site: Site,
    plan: Callable[[], Plan],
    book: Book,
    needed_by: tuple[str, ...],
    names: Collection[str] | None = None,
) -> Iterator[dict[str, Server]]:
    """Start the servers that support the plan, and yield them; *names* selects some of them.

    If a server does not start, it counts as failed in the rows *needed_by*.
    """
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for kind in site.kinds:
            given = plan()
            if not kind.can(given) or (names is not None and kind.name not in names):
                continue
            book.report_progress(f"starting {kind.name}")
            try:
                servers[kind.name] = stack.enter_context(Server(kind.launch(given)))
            except BenchError as error:
                for row in needed_by:
                    book.fail(row, kind.name, error)
        yield servers


def caches(site: Site) -> list[Kind]:
    """Return the servers that cache an upstream, which are all except nginx."""
    return [kind for kind in site.kinds if kind.is_cache]


def _warmed(
    servers: Mapping[str, Server], image: Image, book: Book, needed_by: tuple[str, ...]
) -> dict[str, Server]:
    """Pull the image into each server's cache; return the servers that sent the right bytes."""
    warmed = {}
    for name, server in servers.items():
        try:
            fill(server.address, image)
        except BenchError as error:
            for row in needed_by:
                book.fail(row, name, error)
        else:
            warmed[name] = server
    return warmed


def fill(address: ServerAddress, image: Image) -> None:
    """Get an image's manifest and blobs from a server twice; check them. Raises: LoadFailed."""
    for _ in range(2):
        for reference in ("latest", image.digest):
            path = address.manifest(image.repository, reference)
            _expect(address.get(path, manifest_headers(address)), image.manifest, address.url(path))
        for blob in image.blobs:
            path = address.blob(image.repository, image.blob(len(blob)))
            _expect(address.get(path), blob, address.url(path))


def _expect(got: bytes, expected: bytes, url: str) -> None:
    if got != expected:
        raise LoadFailed(f"{url}: the body differs from the expected {len(expected)} bytes")


def _memory(row: str, servers: Mapping[str, Server], book: Book) -> None:
    """Measure the memory of each idle server's processes."""
    for name, server in servers.items():
        server.tree.settle()
        memory = server.tree.memory()
        whole = total(memory)
        parts = {f"MB {role}": total({role: each}).pss / _MB for role, each in memory.items()}
        more = {PSS: whole.pss / _MB, "MB RSS": whole.rss / _MB, **parts}
        book.add(row, name, Sample(requests=0, seconds=0, more=more))


def _start(servers: Mapping[str, Server], book: Book) -> None:
    """Measure the CPU time that each server has used since its start."""
    for name, server in servers.items():
        server.tree.settle()
        book.add("start", name, Sample(requests=0, seconds=0, cpu=server.tree.cpu()))


def _healthy(server: Server, book: Book) -> None:
    """Measure the CPU time of `entrepot healthy`, which a container runtime runs repeatedly."""
    words = [sys.executable, "-m", "entrepot.appliance", "healthy"]
    for _ in range(_CHECKS):
        cpu = {"healthy": server.cpu_of(words)}
        book.add("healthy", OURS, Sample(requests=0, seconds=0, cpu=cpu))


def _idle(servers: Mapping[str, Server], book: Book) -> None:
    """Measure the CPU time of each server while no request arrives."""
    before = {name: server.tree.run_time() for name, server in servers.items()}
    time.sleep(_IDLE_S)
    for name, server in servers.items():
        cpu = {
            role: 1000 * each / _IDLE_S
            for role, each in spent(before[name], server.tree.run_time()).items()
        }
        book.add("idle", name, Sample(requests=0, seconds=_IDLE_S, cpu=cpu))
