"""Test haproxy.cfg with settings of `http:`: headers, browsers, prefix, URLs, sockets, debug."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from entrepot.appliance.supervise.listen_address import bindable
from entrepot.config.address import SocketPath
from entrepot.config.http_settings import HttpSettings
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.runtime import run_names
from tests.appliance.haproxy import Haproxy, Response, stub_worker
from tests.ports import free_port

pytestmark = pytest.mark.slow

_ORIGIN = "http://ui.test"
_HEADERS = {
    "Access-Control-Allow-Origin": [_ORIGIN],
    "Access-Control-Allow-Methods": ["GET", "HEAD", "DELETE"],
    "X-Odd": ['a "b" 50% \\ # c\'d ${HOME}', "e"],
    "X-Own": ["configured"],
}
_ODD = 'a "b" 50% \\ # c\'d ${HOME}, e'
_LOCATION = "/v2/a/blobs/uploads/1"
_LINK = '</v2/_catalog?last=a&n=1>; rel="next"'


class _Started:
    """Starts one HAProxy for each set of settings, for all tests of this file."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[str, Haproxy] = {}

    def get(self, *, write_access: str = "closed", **http: Any) -> Haproxy:
        """Return HAProxy with the settings *http*, in front of one stand-in for a worker."""
        key = json.dumps([write_access, http], default=str)
        if key not in self._made:
            run = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ent-")))
            self._stack.enter_context(
                stub_worker(run, 1, {"Location": _LOCATION, "Link": _LINK, "X-Own": "worker"})
            )
            self._made[key] = self._stack.enter_context(
                Haproxy(run, 1, write_access=write_access, http=HttpSettings.from_tree(http))
            )
        return self._made[key]


@pytest.fixture(scope="module")
def started() -> Iterator[_Started]:
    """Return the object that starts HAProxy for all tests of this file."""
    with ExitStack() as stack:
        yield _Started(stack)


@pytest.fixture
def browsed(started: _Started) -> Haproxy:
    """Return HAProxy without passwords, whose `http.headers` permit pages of one origin (CORS)."""
    return started.get(write_access="open", headers=_HEADERS)


# ---- http.headers


@pytest.mark.parametrize(
    ("target", "extra", "status"),
    [
        ("/echo", [], 200),
        ("/status/404", [], 404),
        ("/v2/%00", [], 400),
        ("/v2/" + "a" * 5000, [], 414),
        ("/html/500", [], 500),
    ],
    ids=["worker", "worker's error", "rule with a file", "rule", "replaced"],
)
def test_every_response_has_the_configured_headers(
    browsed: Haproxy, target: str, extra: Sequence[str], status: int
) -> None:
    """Every response has the headers of `http.headers`, even if HAProxy makes the response itself.

    With the CORS headers of this test a web page can read the reason of an error.
    """
    response = browsed.request(target, *extra)

    assert response.status == status
    assert response.headers["access-control-allow-origin"] == _ORIGIN
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, DELETE"
    assert response.headers["x-odd"] == _ODD


def test_a_response_from_the_cache_has_the_configured_headers() -> None:
    """HAProxy adds the configured headers to each response, even to one from its cache."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as stack:
        run = Path(folder)
        worker = stack.enter_context(stub_worker(run, 1))
        http = HttpSettings.from_tree({"headers": _HEADERS, "prefix": "/reg/"})
        haproxy = stack.enter_context(Haproxy(run, 1, http=http))
        worker.headers = {
            "X-Entrepot-Generation": CacheEpoch(run).now(),
            "X-Entrepot-Keep": "60",
            "Docker-Content-Digest": "sha256:abc",
        }
        answers = [haproxy.request("/reg/echo") for _ in range(2)]

        assert worker.seen == ["GET /echo"]
        assert {each.headers["x-odd"] for each in answers} == {_ODD}
        assert "detail=memory" in answers[1].headers["cache-status"]
        assert haproxy.line("/echo").uri == "/echo"


def test_large_responses_have_room_for_the_largest_headers(started: _Started) -> None:
    """HAProxy adds the largest `http.headers` even to a response that fills HAProxy's buffer."""
    headers = {f"X-{number}": ["a" * 240] for number in range(16)}
    haproxy = started.get(headers=headers)

    for _ in range(8):
        response = haproxy.request("/large")
        assert (response.status, len(response.body)) == (200, 8 * 1024**2)
        assert [len(response.headers[name.lower()]) for name in headers] == [240] * 16


def test_a_header_that_a_response_has_already_is_not_replaced(browsed: Haproxy) -> None:
    """A header that a response already has is not replaced, as in docker distribution."""
    assert browsed.request("/echo").headers["x-own"] == "worker"
    assert browsed.request("/v2/%00").headers["x-own"] == "configured"


# ---- browsers


def _preflight(haproxy: Haproxy, method: str = "DELETE", origin: str = _ORIGIN) -> Response:
    asks = f"Access-Control-Request-Method: {method}"
    return haproxy.request("/v2/a/manifests/1", f"Origin: {origin}", asks, method="OPTIONS")


@pytest.mark.parametrize("write_access", ["closed", "open", "loopback"])
def test_a_preflight_is_answered_without_a_login(started: _Started, write_access: str) -> None:
    """A preflight request needs no login, because a browser sends no password with it.

    The Fetch standard defines this in the section "CORS-preflight fetch".
    """
    response = _preflight(started.get(write_access=write_access, headers=_HEADERS))

    assert response.status == 200
    assert response.body == b""
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, DELETE"


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [
        (_ORIGIN, "DELETE", 200),
        (_ORIGIN, "PUT", 403),
        (_ORIGIN, "POST", 403),
        ("http://evil.test", "DELETE", 403),
        ("http://ui.test.evil.test", "DELETE", 403),
        ("null", "DELETE", 403),
        ("http://evil.test", "GET", 200),
    ],
)
def test_without_passwords_a_page_may_write_only_from_the_configured_origin(
    browsed: Haproxy, origin: str, method: str, status: int
) -> None:
    """Without passwords a web page may write only from the configured origin.

    Otherwise any page that a user opens could push and delete through the user's browser.
    """
    sent = browsed.request("/echo", f"Origin: {origin}", "Content-Length: 0", method=method)

    assert sent.status == status


def test_any_origin_may_use_the_configured_methods_if_the_operator_allows_all(
    started: _Started,
) -> None:
    """With `Access-Control-Allow-Origin: *` a page of any origin may use the configured methods.

    A write of a browser without the header Origin is refused.
    """
    every = {**_HEADERS, "Access-Control-Allow-Origin": ["*"]}
    haproxy = started.get(write_access="open", headers=every)

    def status(*headers: str, method: str = "DELETE") -> int:
        return haproxy.request("/echo", *headers, "Content-Length: 0", method=method).status

    assert status("Origin: http://any.test") == 200
    assert status("Origin: http://any.test", method="POST") == 403
    assert status("User-Agent: Mozilla/5.0") == 403


def test_no_origin_is_permitted_by_default(started: _Started) -> None:
    """By default no origin is permitted, so a page's preflight request fails in the browser."""
    haproxy = started.get(write_access="open")

    assert _preflight(haproxy).status == 403
    assert "access-control-allow-origin" not in haproxy.request("/echo").headers


def _over(path: Path, target: str, *headers: str) -> Response:
    """Send a GET over a unix socket."""
    lines = [f"GET {target} HTTP/1.1", "Host: a", "Connection: close", *headers, "", ""]
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(path))
        wire.sendall("\r\n".join(lines).encode())
        return Response.parse(b"".join(iter(lambda: wire.recv(65536), b"")))


# ---- http.prefix, http.host and http.relativeurls


def _location(haproxy: Haproxy, target: str, *headers: str) -> str:
    return haproxy.request(target, *headers).headers["location"]


def test_a_prefix_is_removed_from_requests_and_added_to_urls(started: _Started) -> None:
    """HAProxy removes `http.prefix` from requests and adds it to URLs.

    The workers, the cache and the log have paths without the prefix.
    """
    haproxy = started.get(prefix="/reg/")
    response = haproxy.request("/reg/echo?n=1")

    assert response.status == 200
    assert response.headers["location"] == f"/reg{_LOCATION}"
    assert response.headers["link"] == _LINK.replace("</", "</reg/")
    assert haproxy.line("n=1").uri.startswith("/echo?n=1")
    assert haproxy.request("/v2/?n=2").status == 404
    assert haproxy.line("n=2").uri == "/v2/?n=2"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/reg/", 200),
        ("/reg/reg/echo", 200),
        ("/reg", 404),
        ("/v2/", 404),
        ("/regal/v2/", 404),
        ("/REG/echo", 404),
        ("//reg/echo", 404),
    ],
)
def test_only_paths_below_the_prefix_reach_the_api(
    started: _Started, target: str, status: int
) -> None:
    """Only paths below `http.prefix` reach the API, except `/`, /healthz and /metrics."""
    assert started.get(prefix="/reg/").request(target).status == status


def test_the_appliances_own_socket_needs_no_prefix(started: _Started) -> None:
    """Requests over the appliance's own socket, which its programs send, need no prefix."""
    haproxy = started.get(prefix="/reg/")

    assert _over(haproxy.run / run_names.FRONT_SOCKET, "/echo").status == 200


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ([], "http://localhost"),
        (["X-Forwarded-Proto: https"], "https://localhost"),
        (["X-Forwarded-Proto: HTTPS"], "https://localhost"),
        (["X-Forwarded-Proto: javascript"], "http://localhost"),
        (["X-Forwarded-Host: a.test:8443, b.test"], "http://a.test:8443"),
        (["X-Forwarded-Host: a.test/evil"], "http://localhost"),
        (["Forwarded: for=1.2.3.4;proto=https;host=c.test"], "https://c.test"),
        (['Forwarded: host="[::1]:8443";proto=https, host=d.test'], "https://[::1]:8443"),
        (["Forwarded: for=x", "X-Forwarded-Host: a.test"], "http://localhost"),
        (["Forwarded: proto=https", "X-Forwarded-Proto: http"], "https://localhost"),
    ],
)
def test_location_begins_as_the_request_or_its_proxy_says(
    started: _Started, headers: Sequence[str], base: str
) -> None:
    """A Location begins with the host of the request, or with the host in a proxy's headers.

    If the proxy sends Forwarded, even without a host, its X-Forwarded headers are ignored.
    """
    haproxy = started.get(relativeurls=False)

    assert _location(haproxy, "/echo", *headers) == f"{base}{_LOCATION}"
    assert haproxy.request("/echo").headers["link"] == _LINK


def test_location_begins_with_the_configured_host(started: _Started) -> None:
    """A Location begins with the configured host, which no header of a client changes."""
    haproxy = started.get(host="https://registry.test/x", prefix="/reg/")

    found = _location(haproxy, "/reg/echo", "X-Forwarded-Host: a.test", "Forwarded: host=b.test")
    assert found == f"https://registry.test/x{_LOCATION}"


@pytest.mark.parametrize(
    ("http", "base"),
    [
        ({}, None),
        ({"prefix": "/reg"}, "/reg"),
        ({"relativeurls": False}, "http://localhost"),
        ({"host": "https://a.test"}, "https://a.test"),
    ],
    ids=["default", "prefix", "absolute", "host"],
)
def test_a_worker_learns_how_urls_begin_and_a_client_cannot_say_it(
    started: _Started, http: dict[str, Any], base: str | None
) -> None:
    """A worker gets the beginning of its URLs from HAProxy only, never from a client.

    The realm of a challenge has this beginning, and clients send their passwords to the realm.
    """
    haproxy = started.get(**http)
    target = "/reg/echo" if "prefix" in http else "/echo"
    seen = dict(json.loads(haproxy.request(target, "X-Client-Base: http://evil").body))

    assert seen.get("x-client-base") == base


# ---- http.net


def test_a_unix_socket_takes_requests() -> None:
    """With `http.net: unix` HAProxy serves requests on a socket, whose mode follows the umask."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as stack:
        run, path = Path(folder), Path(folder) / "public.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        stack.enter_context(stub_worker(run, 1))
        address = bindable(SocketPath(str(path)))
        http = HttpSettings.from_tree({"net": "unix", "addr": str(path), "prefix": "/reg"})
        # HAProxy also listens on a TCP port, because `Haproxy` waits until that port accepts
        haproxy = stack.enter_context(Haproxy(run, 1, http=http, second_address=address))

        assert _over(path, "/reg/echo?unix").status == 200
        assert haproxy.line("unix").source.startswith("unix")
        assert path.stat().st_mode & 0o022 == 0
        # failed logins of clients without an address are counted by user
        assert _over(path, "/reg/status/401", "Authorization: Basic eDp5").status == 401
        assert "used:1" in haproxy.admin("show table guesses")
        # HAProxy logs the query of this request only on the appliance's own socket, over which the
        # cleaner sends it.
        for prefix in ("", "/reg"):
            assert _over(path, f"{prefix}/healthz?news=1").status == 200
        assert _over(run / run_names.FRONT_SOCKET, "/healthz?news=2").status == 200
        seen = [haproxy.line("news=2").uri, *(each.uri for each in haproxy.lines("/healthz"))]
        assert {"/healthz?news=2", "/healthz"} == set(seen)


# ---- http.h2c


def test_http2_without_tls_is_accepted_with_prior_knowledge(started: _Started) -> None:
    """HAProxy recognises HTTP/2 without TLS by its preface (RFC 9113, 3.3), without a setting."""
    haproxy = started.get()
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as wire:
        wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        frame = wire.recv(9)

    kind = frame[3]
    assert kind == settings[3]


# ---- http.debug


def test_the_debug_listener_serves_its_pages_and_nothing_else() -> None:
    """Only pages for debugging are served on the address of `http.debug.addr`.

    HAProxy marks requests to this address with a header for the worker, and removes this header
    from all other requests.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as stack:
        run = Path(folder)
        worker = stack.enter_context(stub_worker(run, 1))
        debug = {"addr": f"127.0.0.1:{port}", "prometheus": {"enabled": True, "path": "/m"}}
        http = HttpSettings.from_tree({"debug": debug, "prefix": "/reg/"})
        variables = {"ENTREPOT_DEBUG": f"127.0.0.1:{port}"}
        haproxy = stack.enter_context(Haproxy(run, 1, http=http, variables=variables))

        def ask(target: str, method: str = "GET") -> Response:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
                head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\n"
                wire.sendall(f"{head}Connection: close\r\n\r\n".encode())
                return Response.parse(b"".join(iter(lambda: wire.recv(65536), b"")))

        seen = dict(json.loads(ask("/debug/vars").body))
        assert seen["x-entrepot-debug"] == "1"
        assert "authorization" not in seen
        assert ask("/m").status == 200
        assert worker.seen == ["GET /debug/vars", "GET /debug/prometheus"]
        assert [ask("/v2/").status, ask("/debug/vars", "POST").status] == [404, 405]
        spoofed = haproxy.request("/reg/debug/echo", "X-Entrepot-Debug: 1")
        assert "x-entrepot-debug" not in dict(json.loads(spoofed.body))
        assert haproxy.lines("vars") == []
