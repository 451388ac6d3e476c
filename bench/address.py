"""Define the address of a measured server, and send simple requests to the server."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import LoadFailed

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a server on loopback, and the credentials that its clients send.

    `login` is user:password, or empty for anonymous access. `bearer` is a token, or empty. `prefix`
    precedes the names of repositories in URL paths. If `tls` is true, clients use TLS, but do not
    verify the server's certificate.
    """

    port: int
    prefix: str = ""
    login: str = ""
    bearer: str = ""
    tls: bool = False

    def manifest(self, repository: str, reference: str) -> str:
        """Return the URL path of a manifest on this server."""
        return f"/v2/{self.prefix}{repository}/manifests/{reference}"

    def blob(self, repository: str, digest: str) -> str:
        """Return the URL path of a blob on this server."""
        return f"/v2/{self.prefix}{repository}/blobs/{digest}"

    def url(self, path: str) -> str:
        """Return the URL of a path on this server."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def headers(self) -> dict[str, str]:
        """Return the headers that every request to this server has."""
        agent = {"User-Agent": "containerd/1.6.20"}
        if self.bearer:
            return agent | {"Authorization": f"Bearer {self.bearer}"}
        if not self.login:
            return agent
        return agent | {"Authorization": f"Basic {base64.b64encode(self.login.encode()).decode()}"}

    def connect(self) -> http.client.HTTPConnection:
        """Return an HTTP connection to this server; its first request opens the socket."""
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        context = trusting()
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=_TIMEOUT_S, context=context
        )

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Send a request, and return the body of its 200 response. Raises: LoadFailed."""
        status, body = self.ask("GET", path, headers=headers)
        if status != http.HTTPStatus.OK:
            raise LoadFailed(f"GET {self.url(path)}: status {status}, body {body[:200]!r}")
        return body

    def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request, and return the status and the body of its response.

        Raises: LoadFailed.
        """
        connection = self.connect()
        try:
            connection.request(method, path, body or None, self.headers() | dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise LoadFailed(f"{method} {self.url(path)}: {error}") from error
        finally:
            connection.close()


def trusting() -> ssl.SSLContext:
    """Return a client's TLS context that accepts any certificate.

    Only clients verify certificates, so the cost of the server does not change.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
