"""Test that HAProxy remembers which client was redirected to the storage for which blob."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.runtime.run_names import blob_socket
from tests.appliance.haproxy import Haproxy
from tests.appliance.stub_worker import StubWorker

pytestmark = pytest.mark.slow

BLOB = "/v2/one.test/app/blobs/sha256:"
NAME = "x-entrepot-redirected"
URL = "https://s3.test/images/data?X-Amz-Signature=0123456789"


@pytest.fixture(scope="module")
def blobs(run: Path) -> Iterator[StubWorker]:
    """Run a stand-in for a worker on the socket for requests of blobs."""
    with StubWorker(run / blob_socket(1)) as running:
        yield running


@pytest.fixture(scope="module")
def started(run: Path, worker: StubWorker) -> Iterator[Haproxy]:
    """Run HAProxy as if the storage were a bucket."""
    assert worker.seen == []  # the stand-in must run, because HAProxy checks its health
    with Haproxy(run, 1, variables={"ENTREPOT_REDIRECTING": "on"}) as running:
        yield running


@pytest.fixture
def haproxy(started: Haproxy, blobs: StubWorker) -> Haproxy:
    """Return HAProxy in front of a worker that redirects."""
    blobs.status = 307
    blobs.headers = {
        "Location": URL,
        "X-Entrepot-Repository": "one.test/app",
        "X-Entrepot-Kind": "blob",
        "Docker-Content-Digest": "sha256:" + "a" * 64,
        "Cache-Status": "entrepot; hit; detail=redirected",
    }
    return started


def _is_marked(haproxy: Haproxy, path: str, *headers: str) -> bool:
    """Send a request; return True if the worker was informed of an earlier redirect."""
    return NAME in dict(json.loads(haproxy.request(path, *headers).body))


def test_a_client_that_asks_again_is_known_to_the_worker(
    haproxy: Haproxy, blobs: StubWorker
) -> None:
    """HAProxy sends a worker a header if the same client was just redirected for the same blob."""
    one, other = f"{BLOB}{'1' * 64}", f"{BLOB}{'2' * 64}"
    assert not _is_marked(haproxy, one)
    assert _is_marked(haproxy, one)
    assert not _is_marked(haproxy, other)
    assert not _is_marked(haproxy, one, "X-Forwarded-For: 192.0.2.1")

    blobs.status = 200
    sent = f"{BLOB}{'3' * 64}"

    assert [_is_marked(haproxy, sent) for _ in range(2)] == [False, False]


def test_a_client_cannot_send_the_mark(haproxy: Haproxy) -> None:
    """HAProxy removes a client's own header about an earlier redirect.

    A worker sends a request to the bucket for each request with that header.
    """
    assert not _is_marked(haproxy, f"{BLOB}{'4' * 64}", f"{NAME}: 1")


def test_the_url_is_in_no_log(haproxy: Haproxy) -> None:
    """The log line of a redirect shows the use of the blob, and nothing of the signed URL."""
    path = f"{BLOB}{'5' * 64}"

    answer = haproxy.request(path)

    line = haproxy.line("5" * 64)
    assert answer.headers["location"] == URL
    assert (line.status, line.kind, line.digest) == (307, "blob", "sha256:" + "a" * 64)
    assert b"X-Amz" not in (haproxy.run / "access.log").read_bytes()
