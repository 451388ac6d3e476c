"""haproxy.cfg, before stand-in workers: what a client, a worker and the log get to see."""

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
from entrepot.runtime.unix_http import status_of
from tests.appliance.front import UPLOADS, Answer, Front, eventually, worker
from tests.appliance.standin import Worker
from tests.certificates import Authority

_marks = itertools.count(1000)

TOLD = {
    "Docker-Content-Digest": "sha256:abc",
    "Cache-Status": "entrepot; hit; detail=x, other; fwd=miss",
    "X-Entrepot-Repository": "quay.io/podman/hello",
    "X-Entrepot-Kind": "manifest",
    "X-Entrepot-User": 'bob"\\ {}',
    "Server": "gunicorn",
}


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def standin(run: Path) -> Iterator[Worker]:
    """Return the first of two workers."""
    with worker(run, 1, TOLD) as first:
        yield first


@pytest.fixture(scope="module")
def second(run: Path) -> Iterator[Worker]:
    """Return the second of two workers."""
    with worker(run, 2, TOLD) as other:
        yield other


@pytest.fixture(scope="module")
def front(run: Path, standin: Worker, second: Worker) -> Iterator[Front]:
    """Return HAProxy before both."""
    assert standin is not second
    with Front(run) as started:
        yield started


@pytest.fixture(scope="module")
def fronts(front: Front) -> Iterator[Callable[[str], Front]]:
    """Return HAProxy as it is started where there are passwords, and where there are none."""
    assert front.port
    with ExitStack() as stack:
        started: dict[str, Front] = {"closed": front}

        def begin(openness: str) -> Front:
            if openness not in started:
                run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ent-")))
                stack.enter_context(worker(run, 1, TOLD))
                started[openness] = stack.enter_context(Front(run, 1, openness=openness))
            return started[openness]

        yield begin


def code_of(answer: Answer) -> str:
    """Return the OCI error code, which every error must have."""
    return str(json.loads(answer.body)["errors"][0]["code"])


def echoed(answer: Answer, name: str) -> list[str]:
    """Return the values of a request header as the worker has got them."""
    return [value for found, value in json.loads(answer.body) if found == name.lower()]


def test_an_answer_is_one_line_with_the_fields_of_access_line(front: Front) -> None:
    """The log-format has the keys of AccessLine, in its order, and what the worker told."""
    before = time.time() * 1000
    front.ask("/echo?one=line")
    line = front.line("one=line")

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
        user=TOLD["X-Entrepot-User"],
        source="127.0.0.1",
        uri="/echo?one=line",
    )
    raw = (front.run / "access.log").read_bytes().splitlines()[0]
    assert list(json.loads(raw)) == list(AccessLine.__dataclass_fields__)


def test_lines_of_equal_requests_are_equal_but_for_their_start(front: Front) -> None:
    """The logger counts them as one, and remembers what it read of them: it need not look again."""
    for _ in range(3):
        front.ask("/v2/equal%2fequests")
    eventually(lambda: len(front.lines("equal%2f")) == 3)
    log = (front.run / "access.log").read_bytes()
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
def test_a_hostile_uri_is_logged_as_it_came(front: Front, target: str) -> None:
    """Client bytes are escaped: whatever the URI is, its line parses and says it."""
    assert front.ask(target).status == 200

    assert front.line(target).uri == target


@pytest.mark.parametrize(("path", "longest"), [("/echo?", 1024), ("/v2/%2f?", 256)])
def test_a_long_uri_is_cut(front: Front, path: str, longest: int) -> None:
    """A flood of them pushes the lines out of a small log that say what was used.

    Where nothing was used nobody needs it; and who has no content to show gets a short line.
    """
    target = f"{path}{next(_marks)}" + "/" * 3900
    front.ask(target)

    assert front.line(target[:20]).uri == target[:longest]


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
def test_what_is_no_http_is_refused_and_logged_too(front: Front, raw: bytes) -> None:
    """HAProxy answers by itself; the line has no URI, for there is none, and it parses."""
    count = len([line for line in front.lines("") if line.uri == ""])

    status = front.say(raw).status

    assert status in (400, 414)  # HAProxy 3.2 tells a target that is too long
    unread = eventually(lambda: [line for line in front.lines("") if line.uri == ""][count:])
    assert [line.status for line in unread] == [status]


def test_what_the_worker_tells_the_log_stays_here(front: Front) -> None:
    """X-Entrepot-* headers of an answer, and its Server, do not reach the client."""
    answer = front.ask("/echo")

    assert not [name for name in answer.headers if name.startswith("x-entrepot-")]
    assert "server" not in answer.headers
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_forged_headers_do_not_reach_a_worker(front: Front) -> None:
    """A client can't speak for HAProxy, nor say which scheme or host it came by."""
    answer = front.ask(
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

    names = {name for name, _ in json.loads(answer.body)}
    assert [name for name in names if "entrepot" in name] == ["x-entrepot-source"]
    assert echoed(answer, "X-Entrepot-Source") == ["127.0.0.1"]
    assert {"x-forwarded-for", "forwarded"}.isdisjoint(names)
    assert echoed(answer, "X-Forwarded-Proto") == ["http"]
    assert echoed(answer, "Authorization") == ["Basic YTpi"]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("X-Forwarded-Proto: https", ["https"]),
        ("X-Forwarded-Proto: HTTPS", ["https"]),
        ("X-Forwarded-Proto: http", []),
        ("X-Forwarded-Proto: gopher", []),
        ("X-Client-Scheme: gopher", []),
        ("X-Odd: 1", []),
    ],
)
def test_a_worker_is_told_that_a_proxy_before_us_ended_tls(
    front: Front, header: str, told: list[str]
) -> None:
    """Only that, for a URL in an answer to this client; by no other header."""
    assert echoed(front.ask("/echo", header), "X-Client-Scheme") == told


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
def test_a_header_that_two_readers_would_read_differently_is_refused(
    front: Front, headers: list[str], status: int, code: str
) -> None:
    """Refused with the envelope, before a worker sees it."""
    answer = front.ask("/echo", *headers)

    assert (status, code) == (answer.status, code_of(answer))


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
def test_an_error_has_the_envelope_and_a_line(
    front: Front, target: str, status: int, code: str
) -> None:
    """HAProxy's own errors, and a worker's in HTML, are OCI errors to the client."""
    answer = front.ask(target)

    assert (status, code) == (answer.status, code_of(answer))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert front.line(target[:256]).status == status


def test_an_encoded_slash_in_the_query_is_the_workers_business(front: Front) -> None:
    """`last=library%2Fapp` is how a list goes on."""
    assert front.ask("/echo?last=a%2Fb").status == 200


@pytest.mark.parametrize("host", [":", "a:b", "a b", "[::1", "a/b", "x:123456"])
def test_an_authority_that_is_none_is_refused(front: Front, host: str) -> None:
    """It could not be set, and was an error of ours."""
    answer = front.say(f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.status == 400


@pytest.mark.parametrize(
    "host", ["localhost", "a_b.test:5000", "[::1]:5000", "127.0.0.1", "", "x:", "*.test", "a%20b"]
)
def test_an_authority_that_clients_write_is_taken(front: Front, host: str) -> None:
    """Names, addresses, with and without a port; what else RFC 3986 allows is no name of ours."""
    answer = front.say(f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.status == (400 if host in ("*.test", "a%20b") else 200)


@pytest.mark.parametrize("target", ["http:///echo", "https:///echo", "http:///"])
def test_an_absolute_uri_without_a_host_is_refused(front: Front, target: str) -> None:
    """RFC 9110, 4.2.1; in HTTP/2, `:authority` is empty then. It was an error of ours."""
    answer = front.say(f"GET {target} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".encode())

    assert answer.status == 400


@pytest.mark.parametrize("coding", ["chunked,", "chunked, chunked", "gzip, chunked", "identity"])
def test_a_list_of_transfer_codings_is_refused(front: Front, coding: str) -> None:
    """With the envelope, before a worker sees it."""
    answer = front.say(
        f"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n"
        "Connection: close\r\n\r\n0\r\n\r\n".encode()
    )

    assert answer.status in (400, 422, 501)


def test_a_body_is_waited_for_without_a_worker(front: Front, standin: Worker) -> None:
    """Of a small one all, of a large one the beginning; other requests go on meanwhile."""
    address = ("127.0.0.1", front.port)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(300)
        ]
        for number, each in enumerate(slow):
            length = 10 if number % 2 else 10_000_000
            each.sendall(
                b"PUT /echo?slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n12345" % length
            )
        answer = front.ask("/echo")
        assert answer.status == 200
        assert not [each for each in standin.seen if "slow" in each]

        slow[1].sendall(b"67890")
        assert slow[1].recv(12) == b"HTTP/1.1 200"


def test_each_kind_of_request_has_its_places(front: Front) -> None:
    """Large bodies take none from others, and an address with few requests gets spare ones."""
    address = ("127.0.0.1", front.port)
    head = "PUT /wait{} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + "x" * 40_000
    gate = front.run / "places"
    with ExitStack() as stack:
        large = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(20)
        ]
        for each in large:
            each.sendall(head.format(gate).encode())
        eventually(lambda: front.current("uploads") == 2 * UPLOADS)

        assert front.ask("/echo").status == 200
        assert front.current("registry") == 0
        other = stack.enter_context(
            socket.create_connection(address, timeout=20, source_address=("127.0.0.2", 0))
        )
        other.sendall(head.format(gate).encode())
        eventually(lambda: front.current("spare") == 1)
        gate.touch()


# A status as HPACK's static table has it (RFC 7541, appendix A): 200, and 400.
_HTTP2_OK = b"\x88"
_HTTP2_BAD = b"\x8c"
_HTTP2_RESET = b"reset"
_HEADERS_FRAME = 1
_RESET_FRAME = 3


@pytest.mark.parametrize(
    ("announced", "answers"), [("5", {_HTTP2_OK}), ("100", {_HTTP2_BAD, _HTTP2_RESET})]
)
def test_a_body_that_ends_before_its_length_is_refused(
    tmp_path: Path, announced: str, answers: set[bytes]
) -> None:
    """HTTP/2 with trailers may end so, and a worker would wait for the rest for five minutes.

    HAProxy 2.6 leaves the refusal to haproxy.cfg; 3.0 and later reset the stream by themselves
    (RFC 9113, 8.1.1).
    """
    authority = Authority(tmp_path)
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        worker(Path(folder), 1),
        Front(Path(folder), 1, authority.certificate("localhost")) as front,
    ):
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["h2"])
        address = ("127.0.0.1", front.port)
        with (
            socket.create_connection(address, timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            wire.sendall(_put_in_http2(announced, b"short"))
            assert _answer_in_http2(wire) in answers
            eventually(lambda: front.current("uploads") == front.current("registry") == 0)


def _put_in_http2(announced: str, body: bytes) -> bytes:
    """Return a connection's beginning with one PUT that has trailers."""
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


def _answer_in_http2(wire: socket.socket) -> bytes:
    """Return the first byte of the answer's headers, or that the stream was reset."""
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
    ("openness", "method", "host", "status"),
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
def test_no_browser_writes_where_there_are_no_passwords(
    fronts: Callable[[str], Front],
    header: list[str],
    *,
    openness: str,
    method: str,
    host: str,
    status: int,
) -> None:
    """A page could do it for whoever reads it, also by a name of its own for our address."""
    lines = [f"{method} /echo HTTP/1.1", f"Host: {host}", "Connection: close", *header]
    asked = "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()
    clean = "\r\n".join([*lines[:3], "Content-Length: 0", "", ""]).encode()
    front = fronts(openness)

    assert front.say(asked).status == status
    assert front.say(clean).status == 200


@pytest.mark.parametrize(("method", "tries"), [("GET", 2), ("HEAD", 2), ("PUT", 1), ("POST", 1)])
def test_a_read_that_died_before_its_first_byte_is_repeated_once(
    front: Front, standin: Worker, second: Worker, method: str, tries: int
) -> None:
    """A GET or HEAD goes to the other worker; a write may have been done, so it does not."""
    target = f"/hang-up/{method}"
    answer = front.ask(target, "Content-Length: 0", method=method)

    assert answer.status == 502
    assert (standin.seen + second.seen).count(f"{method} {target}") == tries


def test_healthz_is_not_logged_but_for_the_cleaners_probe(front: Front) -> None:
    """Health checks would drown the log; `?news=` is there to be found in it."""
    assert front.ask("/healthz").status == 200
    assert front.ask("/healthz?news=17").status == 200
    front.ask("/echo?after=healthz")
    front.line("after=healthz")

    assert [line.uri for line in front.lines("healthz")][:1] == ["/healthz?news=17"]
    assert "/healthz" not in {line.uri for line in front.lines("healthz")}


def test_our_own_way_in_is_the_same(front: Front) -> None:
    """The socket front.sock leads through the same rules."""
    assert status_of(front.run / "front.sock", "/v2/own%2fway", timeout=5) == 400
    assert front.line("/v2/own%2fway").source.startswith("unix")


def test_healthz_follows_the_workers() -> None:
    """200 while one worker answers, 503 without any, and 200 again when one is back."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as alive:
        run = Path(folder)
        alive.enter_context(worker(run, 1))
        with Front(run) as front:
            eventually(lambda: not front.is_up(2))
            assert front.ask("/healthz").status == 200
            alive.close()
            eventually(lambda: front.ask("/healthz").status == 503)
            assert code_of(front.ask("/healthz")) == "UNAVAILABLE"
            assert code_of(front.ask("/v2/")) == "UNAVAILABLE"
            with worker(run, 1):
                eventually(lambda: front.ask("/healthz").status == 200)


def test_with_a_certificate_it_speaks_tls(tmp_path: Path) -> None:
    """One PEM file with certificate and key; workers hear that it was https."""
    authority = Authority(tmp_path)
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        worker(Path(folder), 1),
        Front(Path(folder), 1, authority.certificate("localhost")) as front,
    ):
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["http/1.1"])
        with urllib.request.urlopen(
            f"https://localhost:{front.port}/echo", context=context
        ) as answer:
            assert ["x-forwarded-proto", "https"] in json.loads(answer.read())


def test_a_connection_of_http2_has_few_streams(front: Front) -> None:
    """Each holds buffers while its body is awaited, before anybody has looked at a password."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        with client.makefile("rb") as frames:
            length, kind = struct.unpack(">IB", b"\0" + frames.read(9)[:4])
            said = dict(struct.iter_unpack(">HI", frames.read(length)))

    assert kind == 4  # SETTINGS
    assert said[3] == 16  # SETTINGS_MAX_CONCURRENT_STREAMS: RFC 9113, 6.5.2


def test_workers_beyond_the_number_set_are_off(front: Front) -> None:
    """Sixteen are written down; HAProxy neither checks nor counts the others."""
    rows = [row for row in front.admin("show stat").splitlines() if ",worker" in row]

    assert len(rows) == 4 * 16
    assert sum(",MAINT" in row for row in rows) == 4 * 14


def test_nothing_but_answers_is_in_the_log() -> None:
    """HAProxy tells its log when a frontend starts and stops: no line of that."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, worker(Path(folder), 1):
        with Front(Path(folder), 1) as front:
            front.ask("/echo")
            front.stop_softly()

        assert [line.uri for line in front.lines("")] == ["/echo"]
