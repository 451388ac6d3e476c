"""haproxy.cfg: requests that have a body, or may have one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.front import Answer, Front, worker


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """Return HAProxy before one worker that says what it got."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        run = Path(folder)
        with worker(run, 1), worker(run, 2), Front(run) as started:
            yield started


def _connection(answer: Answer) -> list[str]:
    return [value for name, value in json.loads(answer.body) if name == "connection"]


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "PATCH", "DELETE"])
def test_each_method_is_logged_by_its_name(front: Front, method: str) -> None:
    """Also one that HAProxy has no number for, as PATCH."""
    front.ask(f"/echo?by={method}", "Content-Length: 0", method=method)

    assert front.line(f"by={method}").method == method


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_a_connection_that_took_a_body_is_not_used_again(front: Front, method: str) -> None:
    """Another client's request was taken for the rest of it, and hung.

    The first one had been refused in the middle of its body, by HTTP/2, and had left.
    """
    assert _connection(front.ask("/echo", "Content-Length: 0", method=method)) == ["close"]


@pytest.mark.parametrize("announced", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_a_read_with_a_body_is_no_exception(front: Front, announced: str) -> None:
    """Odd, but allowed."""
    body = "ab" if announced.startswith("C") else "2\r\nab\r\n0\r\n\r\n"
    head = f"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{announced}\r\n\r\n"

    assert _connection(front.say(f"{head}{body}".encode())) == ["close"]


def test_a_read_leaves_its_connection_open(front: Front) -> None:
    """It is what saves a connection a pull."""
    assert _connection(front.ask("/echo")) == []
