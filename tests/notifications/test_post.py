"""Tests of `Poster`, which sends an envelope over HTTP, with real servers on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from entrepot.notifications.endpoint import EventEndpoint
from entrepot.notifications.errors import NotDelivered
from entrepot.notifications.events import MEDIA_TYPE
from entrepot.notifications.post import Poster
from tests.certificates import Authority
from tests.receiver import Received, Receiver

BODY = b'{"events":[{"id":"1"}]}'
SOON = 0.3


def endpoint(
    url: str, headers: Sequence[tuple[str, str]] = (), timeout: float = 30.0
) -> EventEndpoint:
    """Return an endpoint; by default its timeout does not expire even on a slow machine."""
    return EventEndpoint("a", url, headers=headers, timeout=timeout)


@contextmanager
def serving(respond: Callable[[socket.socket], None]) -> Iterator[str]:
    """Handle connections one after another with *respond*; yield the server's URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    respond(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_an_envelope_is_posted_with_its_media_type_and_headers() -> None:
    """An envelope is sent as a POST request with docker distribution's media type.

    The request has the headers that the operator configured.
    """
    with Receiver() as receiver:
        status = Poster(endpoint(receiver.url, [("X-A", "b"), ("X-A", "c")]))(BODY)
        request = receiver.requests[0]

    assert status == 200
    assert (request.method, request.path, request.body) == ("POST", "/event", BODY)
    assert request.values("content-type") == [MEDIA_TYPE]
    assert request.values("x-a") == ["b", "c"]


def test_a_configured_content_type_replaces_the_own_one() -> None:
    """If the operator configures a Content-Type, it replaces docker distribution's media type."""
    with Receiver() as receiver:
        Poster(endpoint(receiver.url, headers=[("Content-Type", "x/v2")]))(BODY)

        assert receiver.requests[0].values("content-type") == ["x/v2"]


def test_a_login_in_the_url_is_sent_as_basic() -> None:
    """A login in the endpoint's URL is sent in the Authorization header and not in the path."""
    with Receiver() as receiver:
        url = receiver.url.replace("http://", "http://bob:p%40ss@")
        Poster(endpoint(url))(BODY)
        request = receiver.requests[0]

    assert request.values("authorization") == ["Basic Ym9iOnBAc3M="]
    assert request.path == "/event"


@pytest.mark.parametrize("status", [200, 202, 204, 300, 304, 399])
def test_a_status_of_2xx_or_3xx_is_accepted(status: int) -> None:
    """If the endpoint responds with 2xx or 3xx, the event is treated as delivered.

    Docker distribution does the same.
    """
    with Receiver(lambda _: (status, {})) as receiver:
        assert Poster(endpoint(receiver.url))(BODY) == status


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_any_other_status_is_a_failure(status: int) -> None:
    """If the endpoint responds with 4xx or 5xx, the event is not treated as delivered."""
    with (
        Receiver(lambda _: (status, {})) as receiver,
        pytest.raises(NotDelivered) as failure,
    ):
        Poster(endpoint(receiver.url))(BODY)

    assert failure.value.status == status


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "GET", b""), (302, "GET", b""), (303, "GET", b""), (307, "POST", BODY)],
)
def test_a_redirect_is_followed_as_go_follows_it(status: int, method: str, body: bytes) -> None:
    """If the endpoint responds with 301, 302 or 303, the redirect is followed with a GET.

    After 307 and 308 it is followed with the same POST.
    """

    def reply(request: Received) -> tuple[int, dict[str, str]]:
        return (200, {}) if request.path == "/other" else (status, {"Location": "/other"})

    with Receiver(reply) as receiver:
        assert Poster(endpoint(receiver.url))(BODY) == 200
        last = receiver.requests[-1]

    assert (last.method, last.path, last.body) == (method, "/other", body)


def test_a_redirect_without_a_location_is_accepted() -> None:
    """A 3xx response without a Location counts as a delivery, as with Go's HTTP client."""
    with Receiver(lambda _: (302, {})) as receiver:
        assert Poster(endpoint(receiver.url))(BODY) == 302


def test_configured_headers_stay_at_their_origin() -> None:
    """If an endpoint redirects to another server, that server gets none of the endpoint's secrets.

    The secrets are the configured headers and the login in the endpoint's URL.
    """
    with Receiver() as other, Receiver(lambda _: (307, {"Location": other.url})) as receiver:
        url = receiver.url.replace("http://", "http://bob:pass@")
        Poster(endpoint(url, headers=[("X-Token", "secret")]))(BODY)

        assert receiver.requests[0].values("x-token") == ["secret"]
        assert other.requests[0].values("x-token") == []
        assert other.requests[0].values("authorization") == []


def test_redirects_without_an_end_are_a_failure() -> None:
    """If an endpoint redirects more than ten times, the delivery fails, as with Go's client."""
    with Receiver(lambda _: (307, {"Location": "/event"})) as receiver:
        with pytest.raises(NotDelivered, match="redirects"):
            Poster(endpoint(receiver.url))(BODY)

        assert len(receiver.requests) == 11


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/", "https://", "http://h:99999/", "http://[::/"]
)
def test_a_redirect_to_another_scheme_is_a_failure(location: str) -> None:
    """If an endpoint redirects to an invalid URL, the delivery fails.

    A URL with a scheme other than http or https is also invalid.
    """
    with (
        Receiver(lambda _: (307, {"Location": location})) as receiver,
        pytest.raises(NotDelivered, match="invalid URL"),
    ):
        Poster(endpoint(receiver.url))(BODY)


@pytest.mark.parametrize(
    "first",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["silent", "in the status", "in a header", "after an interim response"],
)
def test_a_receiver_that_never_answers_costs_one_time_out(first: bytes) -> None:
    """If an endpoint is silent or responds byte by byte, the delivery fails after one timeout."""
    is_done = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(first)
        while not is_done.wait(SOON / 10):
            if first:
                connection.sendall(b"x")

    with serving(drip) as url:
        began = time.monotonic()
        with pytest.raises(NotDelivered, match="time-out"):
            Poster(endpoint(url, timeout=SOON))(BODY)
        seconds = time.monotonic() - began
        is_done.set()

    assert seconds < 20 * SOON


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 xyz OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "exceeds"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "headers"),
    ],
    ids=["closed", "other protocol", "no status", "endless", "many headers"],
)
def test_a_response_that_is_not_http_is_a_failure(answer: bytes, reason: str) -> None:
    """If the endpoint's response is not HTTP, the delivery fails with a message of one line."""

    def respond(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with serving(respond) as url, pytest.raises(NotDelivered, match=reason):
        Poster(endpoint(url))(BODY)


def test_the_body_of_a_response_is_not_read() -> None:
    """The delivery does not read the body of a response, because the body could be endless."""
    is_done = threading.Event()

    def respond(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nx")
        is_done.wait(10)

    with serving(respond) as url:
        assert Poster(endpoint(url))(BODY) == 200
        is_done.set()


def test_a_refused_connection_is_a_failure_without_a_status() -> None:
    """If an endpoint refuses the connection, the delivery fails without an HTTP status.

    The error message contains no password.
    """
    with Receiver() as receiver:
        url = receiver.url.replace("http://", "http://bob:secret@")
    with pytest.raises(NotDelivered) as failure:
        Poster(endpoint(url))(BODY)

    assert failure.value.status is None
    assert "secret" not in str(failure.value)


def test_a_certificate_of_an_unknown_authority_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the endpoint's certificate was issued by an unknown authority, the delivery fails."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("127.0.0.1"))

    def respond(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            request = b""
            while not request.endswith(BODY):
                request += secure.recv(65536)
            secure.sendall(b"HTTP/1.1 202 Accepted\r\n\r\n")

    with serving(respond) as plain:
        url = plain.replace("http://", "https://")
        with pytest.raises(NotDelivered, match="certificate"):
            Poster(endpoint(url))(BODY)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))

        assert Poster(endpoint(url))(BODY) == 202


def test_a_proxy_gets_the_whole_url() -> None:
    """`Poster` sends a proxy the whole URL of the endpoint and the login for the proxy."""
    with Receiver() as proxy:
        through = proxy.url.replace("http://", "http://me:pw@").removesuffix("/event")
        Poster(endpoint("http://ci.example.com:81/e?x=1"), lambda _: through)(BODY)
        request = proxy.requests[0]

    assert request.path == "http://ci.example.com:81/e?x=1"
    assert request.values("host") == ["ci.example.com:81"]
    assert request.values("proxy-authorization") == ["Basic bWU6cHc="]
