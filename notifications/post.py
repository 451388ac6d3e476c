"""Send one envelope to an endpoint over HTTP, within one time-out for all steps together.

Each step can take only the rest of the time-out, and the body of the response is not read. So a
receiver that sends an endless response cannot exceed the time-out. As in docker distribution, the
connection is closed after each envelope.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from entrepot.notifications.endpoint import EventEndpoint
from entrepot.notifications.errors import NotDelivered
from entrepot.notifications.events import MEDIA_TYPE
from entrepot.runtime.urls import authority_of, raw_origin_of

ProxyFor = Callable[[str], str | None]
"""A `ProxyFor` takes a URL, and returns the URL of the proxy for it, or None."""

_AGENT: Final = "entrepot-notifications"
_LONGEST_HEAD: Final = 64 * 1024
_MOST_REDIRECTS: Final = 10
_LEAST_S: Final = 0.001  # A time-out of 0 would make the socket non-blocking.
_PIECE: Final = 4096
# After a redirect with 301, 302 or 303 the next request is a GET without a body.
_SEE_OTHER: Final = (301, 302, 303)
_SAME_AGAIN: Final = (307, 308)
_ACCEPTED: Final = range(200, 400)
_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    location: str | None


class Poster:
    """A `Poster` sends envelopes to *endpoint*.

    A `Poster` verifies the endpoint's certificate with the certificate authorities of the system.
    """

    def __init__(self, endpoint: EventEndpoint, proxy_for: ProxyFor = lambda _: None) -> None:
        self._endpoint = endpoint
        self._proxy_for = proxy_for
        self._tls: ssl.SSLContext | None = None

    def __call__(self, body: bytes) -> int:
        """Send an envelope, and return the status of the response, which is 2xx or 3xx.

        The method follows redirects. A redirect can lead to another server, which must not get the
        tokens in the configured headers. So these headers are sent only to the origin of the
        configured URL. Raises: NotDelivered.
        """
        deadline = time.monotonic() + self._endpoint.timeout
        url, method = self._endpoint.url, "POST"
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._send(method, url, body if method == "POST" else b"", deadline)
            if response.location is None or response.status not in (*_SEE_OTHER, *_SAME_AGAIN):
                return _accepted(response.status)
            method = method if response.status in _SAME_AGAIN else "GET"
            url = _next(url, response)
        raise NotDelivered(f"the endpoint sent more than {_MOST_REDIRECTS} redirects")

    def _send(self, method: str, url: str, body: bytes, deadline: float) -> _Response:
        try:
            connection, target, proxy_headers = self._connect(url, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotDelivered(_reason(error)) from error
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in (*self._headers(url, body), *proxy_headers):
                connection.putheader(name, value.encode("latin-1"))
            _set_time_out(connection.sock, deadline)
            connection.endheaders(body or None)
            return _read(connection.sock, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotDelivered(_reason(error)) from error
        finally:
            connection.close()

    def _connect(
        self, url: str, deadline: float
    ) -> tuple[http.client.HTTPConnection, str, Sequence[tuple[str, str]]]:
        """Connect to the server of *url*, or to its proxy.

        Return the connection, the request target, and the headers for the proxy.
        """
        parts = urlsplit(url)
        proxy = self._proxy_for(url)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        through = urlsplit(proxy) if proxy else parts
        login = _login(through) if proxy else ()
        left = max(deadline - time.monotonic(), _LEAST_S)
        host, port = through.hostname or "", through.port
        if parts.scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            secure = http.client.HTTPSConnection(host, port, timeout=left, context=self._tls)
            if proxy:
                secure.set_tunnel(parts.hostname or "", parts.port, headers=dict(login))
            secure.connect()
            return secure, target, ()
        plain = http.client.HTTPConnection(host, port, timeout=left)
        plain.connect()
        origin = f"http://{authority_of(url)}"
        return (plain, f"{origin}{target}", login) if proxy else (plain, target, ())

    def _headers(self, url: str, body: bytes) -> Iterator[tuple[str, str]]:
        configured = (
            self._endpoint.headers
            if raw_origin_of(url) == raw_origin_of(self._endpoint.url)
            else ()
        )
        names = {name.lower() for name, _ in configured}
        own = [("User-Agent", _AGENT), ("Connection", "close")]
        if body:
            own += [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body)))]
        yield from (each for each in own if each[0].lower() not in names)
        if "authorization" not in names:
            yield from (("Authorization", value) for _, value in _login(urlsplit(url)))
        yield from configured


def _read(connection: socket.socket, deadline: float) -> _Response:
    """Read the head of the final response; skip 1xx responses.

    Raises: NotDelivered, OSError, HTTPException.
    """
    received = bytearray()
    while True:
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _LONGEST_HEAD:
                raise NotDelivered(f"the head of the response exceeds {_LONGEST_HEAD} bytes")
            _set_time_out(connection, deadline)
            piece = connection.recv(_PIECE)
            if not piece:
                raise NotDelivered("the connection was closed without a response")
            received += piece
        response = _parse(bytes(received[: end + 4]))
        if response.status >= 200:  # noqa: PLR2004 - 1xx: the final response follows
            return response
        del received[: end + 4]


def _parse(head: bytes) -> _Response:
    first, _, rest = head.partition(b"\r\n")
    words = first.split(None, 2)
    is_http = len(words) > 1 and words[0].startswith(b"HTTP/1.")
    if not is_http or len(words[1]) != 3 or not words[1].isdigit():  # noqa: PLR2004 - RFC 9112, 4
        raise NotDelivered("the response is not HTTP/1")
    headers = http.client.parse_headers(io.BytesIO(rest))
    return _Response(int(words[1]), headers.get("Location"))


def _accepted(status: int) -> int:
    if status not in _ACCEPTED:
        raise NotDelivered(f"the response has status {status}", status)
    return status


def _next(url: str, response: _Response) -> str:
    """Return the URL to which a response redirects. Raises: NotDelivered if the URL is invalid."""
    try:
        target = urljoin(url, response.location or "")
        parts = urlsplit(target)
        is_valid = parts.scheme in _SCHEMES and parts.hostname and target.isascii()
        _ = parts.port
    except ValueError:
        is_valid = False
    if not is_valid or not target.isprintable() or " " in target:
        raise NotDelivered("the endpoint sent a redirect to an invalid URL", response.status)
    return target


def _login(parts: SplitResult) -> Sequence[tuple[str, str]]:
    """Return the header Proxy-Authorization with the user and password in the URL of a proxy.

    If *parts* is the URL of an endpoint, the caller sends the value in the header Authorization.
    Return no header if the URL has no user.
    """
    if parts.username is None:
        return ()
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return (("Proxy-Authorization", f"Basic {base64.b64encode(login.encode()).decode()}"),)


def _set_time_out(connection: socket.socket, deadline: float) -> None:
    """Set the time-out of the socket to the time until *deadline*.

    Raises: TimeoutError if *deadline* has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)


def _reason(error: Exception) -> str:
    """Return an error message without the URL, which may contain a password."""
    if isinstance(error, TimeoutError):
        return "no response within the time-out"
    if isinstance(error, NotDelivered):
        return str(error)
    return str(getattr(error, "strerror", None) or error).lower()[:200]
