"""An HTTP client for tests: it opens a connection for each request and follows no redirect."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.datastore.manifest import ACCEPT
from entrepot.runtime.unix_http import UnixConnection

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Response:
    """One complete response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def code(self) -> str:
        """Return the code of the first error in an OCI error body, or "" if there is none."""
        try:
            return str(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, KeyError, IndexError, TypeError):
            return ""


@dataclass(frozen=True, slots=True)
class HttpClient:
    """A client of the server at `host` and `port`, with a login user:password or a `bearer` token.

    With `unix` the client connects to that unix socket; host and port are only in the header Host.
    """

    port: int
    host: str = "127.0.0.1"
    login: str | None = None
    bearer: str | None = None
    tls: ssl.SSLContext | None = None
    unix: Path | None = None

    @property
    def netloc(self) -> str:
        """Return host and port, as in an image reference."""
        return f"{self.host}:{self.port}"

    def get(self, path: str, **headers: str) -> Response:
        """Send a GET; `_` in a header's name is sent as a dash."""
        return self.request("GET", path, headers=_dashed(headers))

    def head(self, path: str, **headers: str) -> Response:
        """Send a HEAD; `_` in a header's name is sent as a dash."""
        return self.request("HEAD", path, headers=_dashed(headers))

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """Send one request and read its whole response.

        Raises: OSError or HTTPException if the connection fails.
        """
        with self.open(method, path, headers=headers, body=body) as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, found, response.read())

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and yield the response as soon as its headers have arrived."""
        connection = self._connection()
        try:
            connection.request(method, path, body, {**self._usual(), **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send raw bytes, and return all bytes of the response."""
        with socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S) as wire:
            with suppress(OSError):  # the server may refuse the request before all of it was sent
                wire.sendall(request)
                wire.shutdown(socket.SHUT_WR)
            return _all_of(wire)

    def _connection(self) -> http.client.HTTPConnection:
        if self.unix is not None:
            connection = UnixConnection(self.unix, _TIMEOUT_S)
            connection.host, connection.port = self.host, self.port
            return connection
        if self.tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=_TIMEOUT_S, context=self.tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)

    def _usual(self) -> dict[str, str]:
        usual = {"Accept": ", ".join(ACCEPT)}
        if self.login is not None:
            usual["Authorization"] = basic(self.login)
        if self.bearer is not None:
            usual["Authorization"] = f"Bearer {self.bearer}"
        return usual


def basic(login: str) -> str:
    """Return the value of an Authorization header for user:password."""
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def listens(port: int) -> bool:
    """Return True if a process accepts connections on the *port* of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _all_of(wire: socket.socket) -> bytes:
    """Read until the server closes or resets the connection.

    The kernel resets a connection that the server closes before it has read all received bytes.
    """
    received = b""
    with suppress(ConnectionResetError):
        while piece := wire.recv(65536):
            received += piece
    return received


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
