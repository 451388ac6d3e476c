"""A token server in a thread: accepts Basic credentials, and returns a JWT for docker-registry."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization

from tests.system.certificates import Authority, Pair
from tests.system.http_client import basic

SERVICE = "system-tests"
ISSUER = "system-test-issuer"


class TokenServer:
    """Issues the requested token to clients with *login* (user:password), and to no others."""

    def __init__(self, login: str) -> None:
        self.pair: Pair = Authority(ISSUER).pair
        self.requests: list[str] = []
        self._login = login
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def realm(self) -> str:
        """The URL for token requests."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(self, scopes: list[str]) -> str:
        """Return a token for *scopes*, with the certificate of its key."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": "someone",
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(len(self.requests)),
            "access": [_access(scope) for scope in scopes],
        }
        der = self.pair.certificate.public_bytes(serialization.Encoding.DER)
        chain = [base64.b64encode(der).decode()]
        return jwt.encode(claims, self.pair.key, algorithm="ES256", headers={"x5c": chain})

    def respond(self, target: str, authorization: str | None) -> tuple[int, bytes]:
        """Return status and body for one request."""
        self.requests.append(target)
        if authorization != basic(self._login):
            return 401, b"{}"
        asked = parse_qs(urlsplit(target).query).get("scope", [])
        scopes = [scope for each in asked for scope in each.split(" ")]
        return 200, json.dumps({"token": self.token(scopes), "expires_in": 300}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = server.respond(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: `requests` has all targets."""

        return Handler


def _access(scope: str) -> dict[str, object]:
    kind, name, actions = scope.split(":", 2)
    return {"type": kind, "name": name, "actions": actions.split(",")}
