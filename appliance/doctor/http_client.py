"""Send the HTTP requests of `entrepot doctor`, without retries and without following redirects."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import urllib3

from entrepot.appliance.doctor.bearer import BearerTokens
from entrepot.appliance.doctor.finding import CannotContinue
from entrepot.appliance.logins import Login

_CONNECT, _READ = 5.0, 120.0  # These time-outs are in seconds.
_PIECE = 1024 * 1024
_CHALLENGED = 401


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A `ServerAddress` is the appliance's address; the TLS certificate must be for `name`.

    `prefix` is `http.prefix` without its last slash, and empty for `/`.
    """

    host: str
    port: int
    name: str
    tls: ssl.SSLContext | None = None
    login: Login | None = None
    prefix: str = ""

    @property
    def url(self) -> str:
        """Return the URL of the appliance."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A `ClientResponse` is one response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def problem(self) -> str:
        """Return the status, and the code and message of an OCI error envelope, if any."""
        try:
            first = json.loads(self.body)["errors"][0]
            text = f"{self.status} {first['code']}: {first['message']}"
        except (ValueError, KeyError, IndexError, TypeError):
            text = str(self.status)
        wait = self.headers.get("retry-after")
        return f"{text} (try again in {wait} s)" if wait else text


class BodySink(Protocol):
    """A `BodySink` receives the body of a response, piece by piece."""

    def extend(self, piece: bytes, /) -> None:
        """Receive the next piece of the body."""
        ...


class ApplianceClient:
    """An `ApplianceClient` sends requests to one appliance.

    If the appliance responds with a challenge, *tokens* requests a token for the challenge, and the
    request is sent a second time with this token, as real clients do.

    The methods raise CannotContinue if the appliance does not respond.
    """

    def __init__(self, server: ServerAddress, tokens: BearerTokens | None = None) -> None:
        self.server = server
        self._tokens = tokens
        self._pool = _pool(server)

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Send a request, and return the response with its body."""
        body = bytearray()
        response = self.stream(method, path, headers or {}, body)
        return replace(response, body=bytes(body))

    def stream(
        self, method: str, path: str, headers: Mapping[str, str], sink: BodySink
    ) -> ClientResponse:
        """Send a request, and pass the body of the response to *sink* as it arrives."""
        sent = {**self._usual(), **headers}
        try:
            response = self._open(method, path, sent)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status == _CHALLENGED and self._tokens is not None:
                token = self._tokens.token(challenge)
                if token:
                    response.drain_conn()
                    bearer = {"Authorization": f"Bearer {token}"}
                    response = self._open(method, path, {**sent, **bearer})
            for piece in response.stream(_PIECE, decode_content=False):
                sink.extend(piece)
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CannotContinue(f"{method} {path}: {_reason(error)}") from error
        return ClientResponse(
            response.status, {key.lower(): each for key, each in response.headers.items()}
        )

    def _open(self, method: str, path: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            method,
            f"{self.server.prefix}{path}",
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
        )

    def anonymous(self) -> ApplianceClient:
        """Return a client of the same server without a login and without tokens."""
        return ApplianceClient(replace(self.server, login=None))

    def _usual(self) -> dict[str, str]:
        # containerd also sends this Accept-Encoding. The appliance must not compress the response,
        # because the body would then be shorter than the manifest states. The class `_Pull` reports
        # a compressed response.
        usual = {"Accept-Encoding": "zstd, gzip, deflate", "User-Agent": "entrepot-doctor"}
        if self.server.login:
            usual["Authorization"] = self.server.login.basic
        return usual


def _pool(server: ServerAddress) -> urllib3.HTTPConnectionPool:
    timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
    if server.tls is None:
        return urllib3.HTTPConnectionPool(server.host, server.port, timeout=timeout)
    return urllib3.HTTPSConnectionPool(
        server.host,
        server.port,
        timeout=timeout,
        ssl_context=server.tls,
        server_hostname=server.name,
        assert_hostname=server.name,
    )


def _reason(error: BaseException) -> str:
    """Return the message of the innermost error, without the texts that urllib3 puts around it."""
    inner = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.HTTPError) and inner is not None:
        return _reason(inner)
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error).lower()
