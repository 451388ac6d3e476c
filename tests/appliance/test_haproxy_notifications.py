"""Tests the log lines and the header from which notifications are made."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.datastore import request_line
from entrepot.datastore.accesslog import AccessLine, AccessLog
from entrepot.datastore.request_line import RequestLine
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.notifications.endpoint import Source
from entrepot.notifications.pulls import PullEvents
from tests.appliance.haproxy import Haproxy, Response, eventually
from tests.appliance.stub_worker import StubWorker
from tests.notifications.test_pulls import Contents

pytestmark = pytest.mark.slow

DIGEST = "sha256:" + "a" * 64
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def before(run: Path, worker: StubWorker) -> Iterator[Haproxy]:
    """Run HAProxy as if an endpoint for notifications were configured."""
    assert worker.seen == []
    with Haproxy(run, 1, variables={"ENTREPOT_NOTIFY": "on"}) as started:
        yield started


@pytest.fixture
def haproxy(before: Haproxy, worker: StubWorker) -> Haproxy:
    """Return HAProxy in front of a worker that serves a manifest."""
    worker.seen.clear()
    worker.headers = {
        "X-Entrepot-Repository": "one.test/app",
        "X-Entrepot-Kind": "manifest",
        "Docker-Content-Digest": DIGEST,
        "Content-Type": "application/vnd.oci.image.index.v1+json",
        "Cache-Status": "entrepot; hit",
    }
    return before


def raw_line(haproxy: Haproxy, mark: str) -> bytes:
    """Wait for a line of the access log whose URI ends with *mark*, and return it unparsed."""
    plain = json.dumps(mark)[1:]
    wanted = [each.encode() for each in (plain, plain.replace("/", "\\/"))]
    log = haproxy.run / "access.log"
    return (
        eventually(
            lambda: next(
                (
                    each
                    for each in log.read_bytes().splitlines()
                    if any(form in each for form in wanted)
                ),
                None,
            )
        )
        or b""
    ).replace(b"\t", b"")  # the mark for `serve`


def parsed(line: bytes) -> tuple[AccessLine, RequestLine, list[str]]:
    """Return a line as AccessLine and RequestLine, and the request's ID, end, address and port."""
    ((values, rest),) = request_line.split([line])
    return *request_line.parse_rest(rest), values.split(request_line.SEPARATOR)


def test_the_line_has_the_fields_of_both_formats_in_their_order(
    haproxy: Haproxy, path: str
) -> None:
    """With notifications a line has the fields of AccessLine and of RequestLine."""
    length = len(haproxy.request(path, "User-Agent: podman/5").body)
    line = raw_line(haproxy, path)
    access, request, (number, _, _, port) = parsed(line)

    names = [each.name for each in fields(AccessLine)]
    assert list(json.loads(line)) == [
        *(*names[:2], "id", "port", *names[2:9], "type", "size", *names[9:]),
        *("host", "agent", "scheme"),
    ]
    assert UUID.fullmatch(number)
    assert port.isdecimal()
    assert (access.digest, access.kind, access.method) == (DIGEST, "manifest", "GET")
    assert (request.host, request.agent, request.scheme) == ("localhost", "podman/5", "")
    assert request.type == "application/vnd.oci.image.index.v1+json"
    assert request.size == str(length)


def test_a_response_of_the_content_cache_has_the_same_fields(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A cached response is logged with its media type, its size, and the client's Host."""
    worker.headers |= {
        "X-Entrepot-Generation": CacheEpoch(haproxy.run).now(),
        "X-Entrepot-Keep": "60",
        "ETag": f'"{DIGEST}"',
    }
    haproxy.request(path)
    cached = _until_cached(haproxy, path)
    lines = [
        each
        for each in (haproxy.run / "access.log").read_bytes().splitlines()
        if path.encode() + b'"' in each
    ]
    access, request, _ = parsed(lines[-1])

    assert access.cache == "entrepot; hit; detail=memory"
    assert request.host == "localhost"
    assert request.type == "application/vnd.oci.image.index.v1+json"
    assert request.size == str(len(cached.body))


def _until_cached(haproxy: Haproxy, path: str) -> Response:
    def look() -> Response | None:
        response = haproxy.request(path)
        is_cached = "detail=memory" in response.headers.get("cache-status", "")
        return response if is_cached else None

    found = eventually(look)
    assert found is not None
    time.sleep(0.05)
    return found


def test_equal_requests_are_one_group_for_the_logger(haproxy: Haproxy, path: str) -> None:
    """Lines of equal requests differ only in start, duration, ID and port.

    The logger parses only one of these lines.
    """
    for _ in range(3):
        haproxy.request(path)
    log = haproxy.run / "access.log"
    mark = path.encode() + b'"'
    eventually(lambda: log.read_bytes().count(mark) == 3)
    at_once = re.sub(rb'"duration":[0-9]+', b'"duration":0', log.read_bytes())
    reader = AccessLog()
    found, errors = reader.read([line for line in at_once.splitlines() if mark in line])

    assert [count for _, count in found] == [3]
    assert errors == []
    assert len(reader._known) == 1
    assert found[0][0].uri == path


def test_the_line_limit_passes_uses_and_limits_other_lines(haproxy: Haproxy, path: str) -> None:
    """`LineLimit` recognises a use in lines with fields for notifications, and limits the rest."""
    haproxy.request(path)
    use = raw_line(haproxy, path) + b"\n"
    other = use.replace(b'"status":200', b'"status":404')
    bound = LineLimit(2, 10**6, lambda _: None)

    assert bytes(bound.filter(memoryview(use * 50))).count(b"\n") == 50
    assert bytes(bound.filter(memoryview(other * 50))).count(b"\n") == 2


@pytest.mark.parametrize("agent", ['"quote"\\back', "{'}", "/" * 192], ids=["quotes", "'", "/"])
def test_a_hostile_user_agent_is_logged_unchanged(haproxy: Haproxy, path: str, agent: str) -> None:
    """A hostile user agent is logged unchanged, because HAProxy escapes its bytes."""
    haproxy.request(path, f"User-Agent: {agent}")
    _, request, _ = parsed(raw_line(haproxy, path))

    assert request.agent == agent


def test_the_longest_line_is_complete(haproxy: Haproxy) -> None:
    """The longest possible line, with all fields escaped, is not truncated."""
    target = f"/v2/longest/{'/' * 1000}"
    haproxy.request(target, f"User-Agent: {'/' * 4000}", f"Accept: {'/' * 1000}")
    access, request, _ = parsed(raw_line(haproxy, target))

    assert access.uri == target
    assert request.agent == "/" * 192


def test_a_write_reaches_the_worker_with_the_id_of_its_line(
    haproxy: Haproxy, worker: StubWorker
) -> None:
    """A worker gets the ID, the port and the address of a write; a client cannot set them."""
    response = haproxy.request("/echo?write", "X-Entrepot-Request: forged", method="DELETE")
    sent = [value for name, value in json.loads(response.body) if name == "x-entrepot-request"]
    _, _, (number, _, _, port) = parsed(raw_line(haproxy, "/echo?write"))

    assert worker.seen
    assert sent == [f"{number} {port} 127.0.0.1"]


def test_a_read_has_no_such_header(haproxy: Haproxy) -> None:
    """A worker gets no header with the ID of a read, not even if the client sends one."""
    response = haproxy.request("/echo?read", "X-Entrepot-Request: forged")

    assert [value for name, value in json.loads(response.body) if "entrepot-request" in name] == []


def test_a_rejected_request_has_a_line_that_makes_no_event(haproxy: Haproxy) -> None:
    """The line of a request that HAProxy rejected can be parsed, and causes no event."""
    haproxy.request("/v2/rejected", "Authorization: Basic YTpi", "Authorization: Basic YTpj")
    line = raw_line(haproxy, "/v2/rejected")

    assert AccessLog().read([line])[1] == []
    assert PullEvents(Source("vm", "i"), Contents()).of([line]) == []
