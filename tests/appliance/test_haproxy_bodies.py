"""Test how haproxy.cfg handles requests that have a body, or may have one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.haproxy import Haproxy, Response, stub_worker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def haproxy() -> Iterator[Haproxy]:
    """Run HAProxy in front of a worker that returns the headers of each request."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        run = Path(folder)
        with stub_worker(run, 1), stub_worker(run, 2), Haproxy(run) as started:
            yield started


def _connection(response: Response) -> list[str]:
    return [value for name, value in json.loads(response.body) if name == "connection"]


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "PATCH", "DELETE"])
def test_each_method_is_logged_by_its_name(haproxy: Haproxy, method: str) -> None:
    """HAProxy logs each method by name, even PATCH, which HAProxy's list of methods lacks."""
    haproxy.request(f"/echo?by={method}", "Content-Length: 0", method=method)

    assert haproxy.line(f"by={method}").method == method


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_the_connection_of_a_request_with_a_body_is_closed(haproxy: Haproxy, method: str) -> None:
    """After a request that may have a body, HAProxy closes its connection to the worker.

    A worker that refuses a request early leaves bytes of the body unread. On a connection that
    stayed open, the worker would read the next client's request as the rest of that body, and hang.
    """
    assert _connection(haproxy.request("/echo", "Content-Length: 0", method=method)) == ["close"]


@pytest.mark.parametrize("announced", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_the_connection_of_a_get_with_a_body_is_closed_too(
    haproxy: Haproxy, announced: str
) -> None:
    """After a GET with a body, which HTTP allows, HAProxy closes the worker's connection too."""
    body = "ab" if announced.startswith("C") else "2\r\nab\r\n0\r\n\r\n"
    head = f"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{announced}\r\n\r\n"

    assert _connection(haproxy.send_raw(f"{head}{body}".encode())) == ["close"]


def test_the_connection_of_a_read_stays_open(haproxy: Haproxy) -> None:
    """HAProxy keeps the worker's connection after a GET without a body, which saves time."""
    assert _connection(haproxy.request("/echo")) == []
