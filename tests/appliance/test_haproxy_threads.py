"""Test a HAProxy with two threads, which share the content cache and the limits."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from entrepot.edge.cache_epoch import CacheEpoch
from tests.appliance.haproxy import Haproxy, eventually, stub_worker
from tests.appliance.stub_worker import StubWorker

pytestmark = pytest.mark.slow

PATH = "/v2/one.test/app/manifests/one"
TWO_THREADS = {"ENTREPOT_THREADS": "2", "ENTREPOT_THREAD2": "on"}
CONNECTIONS = 40  # so many that each of two threads gets some, except once in 2^39 runs
CROWDED, FEW = 6, 4


@contextmanager
def _running(variables: dict[str, str]) -> Iterator[tuple[Haproxy, StubWorker]]:
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1) as worker,
        Haproxy(Path(folder), 1, variables=variables) as haproxy,
    ):
        yield haproxy, worker


def test_threads_share_the_cache_and_each_response_has_a_line() -> None:
    """All threads serve a response that one thread has cached, and no log line is missing."""
    with _running(TWO_THREADS) as (haproxy, worker):
        worker.headers = {
            "X-Entrepot-Generation": CacheEpoch(haproxy.run).now(),
            "X-Entrepot-Keep": "60",
            "X-Entrepot-Kind": "manifest",
            "Docker-Content-Digest": "sha256:abc",
            "Cache-Status": "entrepot; hit",
        }
        for _ in range(CONNECTIONS):
            assert haproxy.request(PATH).status == 200
        eventually(lambda: len(haproxy.lines(PATH)) == CONNECTIONS)

        assert worker.seen.count(f"GET {PATH}") == 1
        assert {line.source for line in haproxy.lines(PATH)} == {"127.0.0.1"}
        served = [_requests(haproxy, name) for name in ("public", "public2")]
        assert min(served) > 0
        assert sum(served) >= CONNECTIONS


@pytest.mark.parametrize("threads", [{}, TWO_THREADS], ids=["one", "two"])
def test_an_address_with_many_connections_gets_no_further_one(threads: dict[str, str]) -> None:
    """The limit for an address counts its connections in all threads, and no other connections."""
    limits = {"ENTREPOT_CROWDED": str(CROWDED), "ENTREPOT_FEW": str(FEW)}
    with _running(threads | limits) as (haproxy, _), ExitStack() as stack:
        answered = [_is_answered(haproxy, "127.0.0.1", stack) for _ in range(CONNECTIONS)]

        assert answered.count(True) == CROWDED - 1
        assert _is_answered(haproxy, "127.0.0.2", stack)


def _requests(haproxy: Haproxy, frontend: str) -> int:
    rows = haproxy.admin("show stat").splitlines()
    names = rows[0].removeprefix("# ").split(",")
    stats = [dict(zip(names, row.split(","), strict=False)) for row in rows[1:] if row]
    return next(
        int(each["req_tot"])
        for each in stats
        if (each["pxname"], each["svname"]) == (frontend, "FRONTEND")
    )


def _is_answered(haproxy: Haproxy, source: str, stack: ExitStack) -> bool:
    """Return True if a new connection gets a response; *stack* keeps the connection open."""
    address, own = ("127.0.0.1", haproxy.port), (source, 0)
    try:
        connection = socket.create_connection(address, timeout=30, source_address=own)
        stack.enter_context(connection)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False
