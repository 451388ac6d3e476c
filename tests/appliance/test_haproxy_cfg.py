"""Test haproxy.cfg with stand-ins for workers: requests, responses and log lines."""

from __future__ import annotations

import itertools
import json
import re
import socket
import ssl
import struct
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import starmap
from pathlib import Path

import pytest

from entrepot.datastore.accesslog import AccessLine, AccessLog
from entrepot.runtime import run_names
from entrepot.runtime.unix_socket import status_of
from tests.appliance.haproxy import UPLOADS, Haproxy, Response, eventually, stub_worker
from tests.appliance.stub_worker import StubWorker
from tests.certificates import Authority

pytestmark = pytest.mark.slow

_marks = itertools.count(1000)

WORKER_HEADERS = {
    "Docker-Content-Digest": "sha256:abc",
    "Cache-Status": "entrepot; hit; detail=x, other; fwd=miss",
    "X-Entrepot-Repository": "quay.io/podman/hello",
    "X-Entrepot-Kind": "manifest",
    "X-Entrepot-User": 'bob"\\ {}',
    "Server": "gunicorn",
}


@pytest.fixture(scope="module")
def first(run: Path) -> Iterator[StubWorker]:
    """Run the first of two stand-ins for workers."""
    with stub_worker(run, 1, WORKER_HEADERS) as first:
        yield first


@pytest.fixture(scope="module")
def second(run: Path) -> Iterator[StubWorker]:
    """Run the second of two stand-ins for workers."""
    with stub_worker(run, 2, WORKER_HEADERS) as other:
        yield other


@pytest.fixture(scope="module")
def haproxy(run: Path, first: StubWorker, second: StubWorker) -> Iterator[Haproxy]:
    """Run HAProxy in front of both stand-ins."""
    assert first is not second
    with Haproxy(run) as started:
        yield started


@pytest.fixture(scope="module")
def haproxies(haproxy: Haproxy) -> Iterator[Callable[[str], Haproxy]]:
    """Return a function that starts HAProxy with a value of the variable ENTREPOT_OPEN."""
    assert haproxy.port
    with ExitStack() as stack:
        started: dict[str, Haproxy] = {"closed": haproxy}

        def begin(write_access: str) -> Haproxy:
            if write_access not in started:
                run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ent-")))
                stack.enter_context(stub_worker(run, 1, WORKER_HEADERS))
                started[write_access] = stack.enter_context(
                    Haproxy(run, 1, write_access=write_access)
                )
            return started[write_access]

        yield begin


def code_of(response: Response) -> str:
    """Return the code of the first error in a JSON body of the OCI spec."""
    return str(json.loads(response.body)["errors"][0]["code"])


def echoed(response: Response, name: str) -> list[str]:
    """Return the values of the header *name* that the worker got with the request."""
    return [value for found, value in json.loads(response.body) if found == name.lower()]


def test_each_response_has_one_log_line_with_the_fields_of_access_line(haproxy: Haproxy) -> None:
    """Each response has one log line, with the fields of `AccessLine` in their order."""
    before = time.time() * 1000
    haproxy.request("/echo?one=line")
    line = haproxy.line("one=line")

    assert before - 1000 < line.start < time.time() * 1000 + 1000
    assert line == AccessLine(
        start=line.start,
        duration=line.duration,
        method="GET",
        status=200,
        termination="--",
        bytes=line.bytes,
        digest="sha256:abc",
        repository="quay.io/podman/hello",
        kind="manifest",
        cache="entrepot; hit; detail=x, other; fwd=miss",
        user=WORKER_HEADERS["X-Entrepot-User"],
        source="127.0.0.1",
        uri="/echo?one=line",
    )
    raw = (haproxy.run / "access.log").read_bytes().splitlines()[0]
    assert list(json.loads(raw)) == list(AccessLine.__dataclass_fields__)


def test_log_lines_of_equal_requests_differ_only_in_their_start(haproxy: Haproxy) -> None:
    """Log lines of equal requests differ only in start and duration.

    The logger counts the lines with equal durations as one group, and caches the parsed line.
    """
    for _ in range(3):
        haproxy.request("/v2/equal%2fequests")
    eventually(lambda: len(haproxy.lines("equal%2f")) == 3)
    log = (haproxy.run / "access.log").read_bytes()
    at_once = re.sub(rb'"duration":[0-9]+', b'"duration":0', log)
    reader = AccessLog()
    found, _ = reader.read([line for line in at_once.splitlines() if b"equal%2f" in line])

    assert [count for _, count in found] == [3]
    assert len(reader._known) == 1


@pytest.mark.parametrize(
    "target",
    ['/echo?"quote"\\back', "/echo?'single'{}%22%5c%00", "/echo?" + "/" * 1000, "/echo?\\u0000"],
    ids=["quotes", "encoded", "long and all escaped", "an escape of JSON"],
)
def test_a_hostile_uri_is_logged_unchanged(haproxy: Haproxy, target: str) -> None:
    """HAProxy escapes a hostile URI in its log line, so the line can be parsed back to that URI."""
    assert haproxy.request(target).status == 200

    assert haproxy.line(target).uri == target


@pytest.mark.parametrize("filler", ["/", '"'])
@pytest.mark.parametrize(("path", "longest"), [("/echo?", 1024), ("/v2/%2f?", 256)])
def test_a_long_uri_is_cut(haproxy: Haproxy, path: str, longest: int, filler: str) -> None:
    """A long URI is truncated in the log, so that long URIs do not crowd out other lines.

    The logger needs no URI of a request that used no content, so HAProxy truncates such a URI to
    256 characters. A URI with quotes is cut before it is escaped, so no escape sequence is cut.
    """
    target = f"{path}{next(_marks)}" + filler * 3900
    haproxy.request(target)

    assert haproxy.line(target[:20]).uri == target[:longest]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /echo?\x01\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"garbage\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["control and high bytes", "no HTTP", "a broken header", "longer than the buffer"],
)
def test_a_malformed_request_is_refused_and_logged(haproxy: Haproxy, raw: bytes) -> None:
    """A malformed request is refused by HAProxy, and logged with an empty URI."""
    count = len([line for line in haproxy.lines("") if line.uri == ""])

    status = haproxy.send_raw(raw).status

    assert status in (400, 414)  # from version 3.2 on HAProxy recognises a target that is too long
    unread = eventually(lambda: [line for line in haproxy.lines("") if line.uri == ""][count:])
    assert [line.status for line in unread] == [status]


def test_internal_headers_of_a_worker_do_not_reach_the_client(haproxy: Haproxy) -> None:
    """HAProxy removes X-Entrepot-* headers and the Server header from a worker's response."""
    response = haproxy.request("/echo")

    assert not [name for name in response.headers if name.startswith("x-entrepot-")]
    assert "server" not in response.headers
    assert response.headers["docker-distribution-api-version"] == "registry/2.0"


def test_forged_headers_do_not_reach_a_worker(haproxy: Haproxy) -> None:
    """Headers that only HAProxy may set do not reach a worker from a client."""
    response = haproxy.request(
        "/echo",
        "X-Entrepot-User: root",
        "X-Entrepot-Source: 192.0.2.1",
        "X-Entrepot-Guesses: many",
        "x-entrepot-verified: 1",
        "X_Entrepot_User: root",
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
        "Authorization: Basic YTpi",
    )

    names = {name for name, _ in json.loads(response.body)}
    assert [name for name in names if "entrepot" in name] == ["x-entrepot-source"]
    assert echoed(response, "X-Entrepot-Source") == ["127.0.0.1"]
    assert {"x-forwarded-for", "forwarded"}.isdisjoint(names)
    assert echoed(response, "X-Forwarded-Proto") == ["http"]
    assert echoed(response, "Authorization") == ["Basic YTpi"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("X-Forwarded-Proto: https", ["https"]),
        ("X-Forwarded-Proto: HTTPS", ["https"]),
        ("X-Forwarded-Proto: http", []),
        ("X-Forwarded-Proto: gopher", []),
        ("X-Client-Scheme: gopher", []),
        ("X-Odd: 1", []),
    ],
)
def test_a_worker_gets_the_scheme_of_a_proxy_that_ended_tls(
    haproxy: Haproxy, header: str, expected: list[str]
) -> None:
    """A worker gets the scheme `https` if the request has `X-Forwarded-Proto: https`.

    A proxy in front that decrypts TLS sends this header. The scheme is a part of URLs in responses.
    """
    assert echoed(haproxy.request("/echo", header), "X-Client-Scheme") == expected


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (["Authorization: Basic YTpi", "Authorization: Basic Yzpk"], 400, "UNSUPPORTED"),
        (["Authorization: Basic YTpi, Basic Yzpk"], 400, "UNSUPPORTED"),
        (["SCRIPT_NAME: /v2"], 400, "UNSUPPORTED"),
        (["PATH_INFO: /v2"], 400, "UNSUPPORTED"),
        (["X-Long: " + "a" * 20_000], 431, "UNSUPPORTED"),
        ([f"X-{number}: 1" for number in range(120)], 400, "UNSUPPORTED"),
    ],
    ids=["two logins", "two in one", "script name", "path info", "a long header", "many headers"],
)
def test_an_ambiguous_header_is_refused(
    haproxy: Haproxy, headers: list[str], status: int, code: str
) -> None:
    """HAProxy refuses an ambiguous header, which two parsers could read differently."""
    response = haproxy.request("/echo", *headers)

    assert (status, code) == (response.status, code_of(response))


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v2/a%2fb/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%2Fb/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%00b/tags/list", 400, "NAME_INVALID"),
        ("/v2/" + "a" * 5_000, 414, "UNSUPPORTED"),
        ("/v2/" + "a" * 25_000, 414, "UNSUPPORTED"),
        ("/html/500", 500, "UNKNOWN"),
        ("/html/431", 400, "UNSUPPORTED"),
        ("/hang-up", 502, "UNAVAILABLE"),
    ],
    ids=["slash", "Slash", "zero", "long", "very long", "a failing worker", "a strict one", "dies"],
)
def test_an_error_has_the_oci_envelope_and_a_log_line(
    haproxy: Haproxy, target: str, status: int, code: str
) -> None:
    """HAProxy's own errors, and HTML errors of a worker, become OCI errors."""
    response = haproxy.request(target)

    assert (status, code) == (response.status, code_of(response))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["docker-distribution-api-version"] == "registry/2.0"
    assert haproxy.line(target[:256]).status == status


def test_an_encoded_slash_in_the_query_is_accepted(haproxy: Haproxy) -> None:
    """HAProxy accepts an encoded slash in a query, as in a paged list: `last=library%2Fapp`."""
    assert haproxy.request("/echo?last=a%2Fb").status == 200


@pytest.mark.parametrize("host", [":", "a:b", "a b", "[::1", "a/b", "x:123456"])
def test_an_invalid_host_is_refused(haproxy: Haproxy, host: str) -> None:
    """HAProxy refuses an invalid Host, which it could not set as the URI's authority.

    Without a rule for this in haproxy.cfg, HAProxy would respond with 500.
    """
    response = haproxy.send_raw(
        f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )

    assert response.status == 400


@pytest.mark.parametrize(
    "host", ["localhost", "a_b.test:5000", "[::1]:5000", "127.0.0.1", "", "x:", "*.test", "a%20b"]
)
def test_a_host_that_clients_send_is_accepted(haproxy: Haproxy, host: str) -> None:
    """HAProxy accepts names and addresses as Host, with and without a port.

    RFC 3986 allows further forms of a host, which HAProxy refuses.
    """
    response = haproxy.send_raw(
        f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )

    assert response.status == (400 if host in ("*.test", "a%20b") else 200)


@pytest.mark.parametrize("target", ["http:///echo", "https:///echo", "http:///"])
def test_an_absolute_uri_without_a_host_is_refused(haproxy: Haproxy, target: str) -> None:
    """HAProxy refuses an absolute URI with an empty Host, as RFC 9110, 4.2.1 requires.

    Without a rule for this in haproxy.cfg, HAProxy would respond with 500.
    """
    response = haproxy.send_raw(
        f"GET {target} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".encode()
    )

    assert response.status == 400


@pytest.mark.parametrize("coding", ["chunked,", "chunked, chunked", "gzip, chunked", "identity"])
def test_a_list_of_transfer_codings_is_refused(haproxy: Haproxy, coding: str) -> None:
    """HAProxy refuses each transfer coding except a single `chunked`."""
    response = haproxy.send_raw(
        f"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n"
        "Connection: close\r\n\r\n0\r\n\r\n".encode()
    )

    assert response.status in (400, 422, 501)


def test_haproxy_waits_for_a_body_without_occupying_a_worker(
    haproxy: Haproxy, first: StubWorker
) -> None:
    """HAProxy waits for a small body, or the start of a large one, without using a worker."""
    address = ("127.0.0.1", haproxy.port)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(300)
        ]
        for number, each in enumerate(slow):
            length = 10 if number % 2 else 10_000_000
            each.sendall(
                b"PUT /echo?slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n12345" % length
            )
        response = haproxy.request("/echo")
        assert response.status == 200
        assert not [each for each in first.seen if "slow" in each]

        slow[1].sendall(b"67890")
        assert slow[1].recv(12) == b"HTTP/1.1 200"


def test_each_kind_of_request_has_its_own_slots(haproxy: Haproxy) -> None:
    """HAProxy limits requests with large bodies and other requests separately.

    Many requests with large bodies therefore do not delay other requests. An address with few
    requests may use slots that are reserved for such addresses.
    """
    address = ("127.0.0.1", haproxy.port)
    head = "PUT /wait{} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + "x" * 40_000
    gate = haproxy.run / "places"
    with ExitStack() as stack:
        large = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(20)
        ]
        for each in large:
            each.sendall(head.format(gate).encode())
        eventually(lambda: haproxy.active_requests("uploads") == 2 * UPLOADS)

        assert haproxy.request("/echo").status == 200
        assert haproxy.active_requests("registry") == 0
        other = stack.enter_context(
            socket.create_connection(address, timeout=20, source_address=("127.0.0.2", 0))
        )
        other.sendall(head.format(gate).encode())
        eventually(lambda: haproxy.active_requests("spare") == 1)
        gate.touch()


# the first byte of a response with status 200 or 400, from HPACK's static table (RFC 7541, A)
_HTTP2_OK = b"\x88"
_HTTP2_BAD = b"\x8c"
_HTTP2_RESET = b"reset"
_HEADERS_FRAME = 1
_RESET_FRAME = 3


@pytest.mark.parametrize(
    ("announced", "responses"), [("5", {_HTTP2_OK}), ("100", {_HTTP2_BAD, _HTTP2_RESET})]
)
def test_a_body_shorter_than_its_content_length_is_refused(
    tmp_path: Path, announced: str, responses: set[bytes]
) -> None:
    """HAProxy refuses a body shorter than its Content-Length.

    A worker would wait for the missing bytes for five minutes.

    HAProxy 2.6 refuses a short body only with a rule in haproxy.cfg; 3.0 and later reset the stream
    by themselves (RFC 9113, 8.1.1).
    """
    authority = Authority(tmp_path)
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1),
        Haproxy(Path(folder), 1, authority.certificate("localhost")) as haproxy,
    ):
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["h2"])
        address = ("127.0.0.1", haproxy.port)
        with (
            socket.create_connection(address, timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            wire.sendall(_put_in_http2(announced, b"short"))
            assert _response_in_http2(wire) in responses
            eventually(
                lambda: (
                    haproxy.active_requests("uploads") == haproxy.active_requests("registry") == 0
                )
            )


def _put_in_http2(announced: str, body: bytes) -> bytes:
    """Return the bytes of a new HTTP/2 connection with one PUT and trailers."""
    head = {":method": "PUT", ":path": "/echo", ":scheme": "https", ":authority": "localhost"}
    fields = b"".join(starmap(_field, {**head, "content-length": announced}.items()))
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(4, 0, 0, b"")
        + _frame(1, 4, 1, fields)
        + _frame(0, 0, 1, body)
        + _frame(1, 5, 1, _field("x-trailer", "1"))
    )


def _field(name: str, value: str) -> bytes:
    return b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _response_in_http2(wire: socket.socket) -> bytes:
    """Return the first byte of the HTTP/2 response's header block, or _HTTP2_RESET."""
    with wire.makefile("rb") as frames:
        while len(head := frames.read(9)) == 9:
            payload = frames.read(int.from_bytes(head[:3], "big"))
            if head[3] == _HEADERS_FRAME:
                return payload[:1]
            if head[3] == _RESET_FRAME:
                return _HTTP2_RESET
    return b""


_BROWSERS = [
    ["Origin: http://evil.test"],
    ["Sec-Fetch-Site: cross-site"],
    ["User-Agent: Mozilla/5"],
]


@pytest.mark.parametrize("header", _BROWSERS, ids=["origin", "fetch", "agent"])
@pytest.mark.parametrize(
    ("write_access", "method", "host", "status"),
    [
        ("loopback", "POST", "localhost:5000", 403),
        ("loopback", "DELETE", "127.0.0.1", 403),
        ("loopback", "GET", "rebound.test:5000", 403),
        ("loopback", "GET", "localhost:5000", 200),
        ("loopback", "GET", "[::1]:5000", 200),
        ("open", "POST", "registry.test", 403),
        ("open", "GET", "registry.test", 200),
        ("closed", "POST", "registry.test", 200),
    ],
)
def test_a_browser_cannot_write_where_no_password_is_needed(
    haproxies: Callable[[str], Haproxy],
    header: list[str],
    *,
    write_access: str,
    method: str,
    host: str,
    status: int,
) -> None:
    """If no password is needed, HAProxy refuses a write with the headers that only browsers send.

    Otherwise a web page that a user opens could push or delete, also through a host name that
    resolves to the appliance.
    """
    lines = [f"{method} /echo HTTP/1.1", f"Host: {host}", "Connection: close", *header]
    from_browser = "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()
    from_client = "\r\n".join([*lines[:3], "Content-Length: 0", "", ""]).encode()
    haproxy = haproxies(write_access)

    assert haproxy.send_raw(from_browser).status == status
    assert haproxy.send_raw(from_client).status == 200


@pytest.mark.parametrize(("method", "tries"), [("GET", 2), ("HEAD", 2), ("PUT", 1), ("POST", 1)])
def test_a_read_without_any_response_byte_is_retried_once(
    haproxy: Haproxy, first: StubWorker, second: StubWorker, method: str, tries: int
) -> None:
    """If a worker sends no byte in response to a GET or HEAD, the other worker gets the request.

    A write without a response may have taken effect, so HAProxy does not repeat a write.
    """
    target = f"/hang-up/{method}"
    response = haproxy.request(target, "Content-Length: 0", method=method)

    assert response.status == 502
    assert (first.seen + second.seen).count(f"{method} {target}") == tries


def test_health_checks_are_not_logged_except_the_cleaners_log_barrier(haproxy: Haproxy) -> None:
    """Health checks would fill the log, so HAProxy logs only the checks of the cleaner.

    The cleaner sends `?news=` with its checks, and waits until the logger has read their lines. The
    cleaner then knows that the logger has read all earlier lines.
    """
    assert haproxy.request("/healthz").status == 200
    assert haproxy.request("/healthz?news=17").status == 200
    haproxy.request("/echo?after=healthz")
    haproxy.line("after=healthz")

    assert [line.uri for line in haproxy.lines("healthz")][:1] == ["/healthz?news=17"]
    assert "/healthz" not in {line.uri for line in haproxy.lines("healthz")}


def test_the_internal_socket_follows_the_same_rules(haproxy: Haproxy) -> None:
    """Requests over the internal socket front.sock follow the rules of the TCP frontend."""
    assert status_of(haproxy.run / run_names.FRONT_SOCKET, "/v2/own%2fway", timeout=5) == 400
    assert haproxy.line("/v2/own%2fway").source.startswith("unix")


def test_healthz_reflects_the_state_of_the_workers() -> None:
    """/healthz gets 200 while at least one worker responds, and 503 while none does.

    A failed request makes HAProxy check the workers at once.
    """
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as alive:
        run = Path(folder)
        alive.enter_context(stub_worker(run, 1))
        with Haproxy(run) as haproxy:
            eventually(lambda: haproxy.request("/v2/").status and not haproxy.is_up(2))
            assert haproxy.request("/healthz").status == 200
            alive.close()
            haproxy.request("/v2/")
            eventually(lambda: haproxy.request("/healthz").status == 503)
            assert code_of(haproxy.request("/healthz")) == "UNAVAILABLE"
            assert code_of(haproxy.request("/v2/")) == "UNAVAILABLE"
            with stub_worker(run, 1):
                eventually(lambda: haproxy.request("/healthz").status == 200)


def test_with_a_certificate_haproxy_serves_tls(tmp_path: Path) -> None:
    """HAProxy serves TLS from one PEM file with certificate and key.

    Workers receive the scheme https.
    """
    authority = Authority(tmp_path)
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1),
        Haproxy(Path(folder), 1, authority.certificate("localhost")) as haproxy,
    ):
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["http/1.1"])
        with urllib.request.urlopen(
            f"https://localhost:{haproxy.port}/echo", context=context
        ) as response:
            assert ["x-forwarded-proto", "https"] in json.loads(response.read())


def test_an_http2_connection_has_few_streams(haproxy: Haproxy) -> None:
    """HAProxy limits the streams of an HTTP/2 connection, because each stream needs buffers.

    A stream uses its buffers before HAProxy checks the login, so even a client without a login
    could otherwise use much memory.
    """
    with socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        with client.makefile("rb") as frames:
            length, kind = struct.unpack(">IB", b"\0" + frames.read(9)[:4])
            settings = dict(struct.iter_unpack(">HI", frames.read(length)))

    assert kind == 4  # a SETTINGS frame
    assert settings[3] == 16  # SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2)


def test_workers_beyond_the_configured_number_are_disabled(haproxy: Haproxy) -> None:
    """Of the sixteen workers in haproxy.cfg, those beyond the configured number are disabled.

    HAProxy neither checks nor counts these workers.
    """
    rows = [row for row in haproxy.admin("show stat").splitlines() if ",worker" in row]

    assert len(rows) == 4 * 16
    assert sum(",MAINT" in row for row in rows) == 4 * 14


def test_the_access_log_contains_only_requests() -> None:
    """The access log contains only requests, and none of HAProxy's own notices."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, stub_worker(Path(folder), 1):
        with Haproxy(Path(folder), 1) as haproxy:
            haproxy.request("/echo")
            haproxy.stop_gracefully()

        assert [line.uri for line in haproxy.lines("")] == ["/echo"]
