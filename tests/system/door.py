"""Plain HTTP as a test speaks it: one connection a request, every header in its own hands."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from entrepot.datastore.manifest import ACCEPT

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def code(self) -> str:
        """The code of the first error in an OCI error envelope; empty when it is none."""
        try:
            return str(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, KeyError, IndexError, TypeError):
            return ""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server listens, and who asks: `login` is user:password, `bearer` a token."""

    port: int
    host: str = "127.0.0.1"
    login: str | None = None
    bearer: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def netloc(self) -> str:
        """Host and port, as an image reference writes them."""
        return f"{self.host}:{self.port}"

    def get(self, path: str, **headers: str) -> Answer:
        """GET; a header's name is written with underscores for dashes."""
        return self.ask("GET", path, headers=_dashed(headers))

    def head(self, path: str, **headers: str) -> Answer:
        """HEAD, likewise."""
        return self.ask("HEAD", path, headers=_dashed(headers))

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send one request and read its whole answer. Raises: OSError, HTTPException."""
        with self.open(method, path, headers=headers, body=body) as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send one request and hand out the answer as soon as its headers are here."""
        connection = self._connection()
        try:
            connection.request(method, path, body, {**self._usual(), **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are and return all that comes back."""
        with socket.create_connection((self.host, self.port), timeout=_PATIENCE) as wire:
            with suppress(OSError):  # refused before its end
                wire.sendall(request)
                wire.shutdown(socket.SHUT_WR)
            return _all_of(wire)

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=_PATIENCE, context=self.tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=_PATIENCE)

    def _usual(self) -> dict[str, str]:
        usual = {"Accept": ", ".join(ACCEPT)}
        if self.login is not None:
            usual["Authorization"] = basic(self.login)
        if self.bearer is not None:
            usual["Authorization"] = f"Bearer {self.bearer}"
        return usual


def basic(login: str) -> str:
    """Return the Authorization header of user:password."""
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _all_of(wire: socket.socket) -> bytes:
    """Read until the other side closes, or resets because we had sent more than it read."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := wire.recv(65536):
            received += piece
    return received


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
