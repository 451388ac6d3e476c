"""A small but strict token server in a thread (docker distribution, "Token Authentication").

The server issues tokens after a GET with Basic credentials, or a POST with a password (OAuth 2.0).
A request without the right `service` gets 400, and a request with a wrong password gets 401. A
token has only the requested actions that the policy permits.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from tests.serving import EndsAtOnce
from tests.system.certificates import Authority, Pair
from tests.token_signer import Signer, access

SERVICE = "system-tests"
ISSUER = "system-test-issuer"
EVERYTHING: Final = frozenset({"pull", "push", "delete", "*"})

Policy = Callable[[str, str, str], frozenset[str]]
"""Takes a user (empty: anonymous), a type and a name, and returns the permitted actions."""


def all_for_users(user: str, kind: str, name: str) -> frozenset[str]:
    """Permit everything to users with a login, and nothing to anonymous clients."""
    del kind, name
    return EVERYTHING if user else frozenset()


class _Server(EndsAtOnce, ThreadingHTTPServer):
    pass


class TokenServer:
    """Issues tokens to clients with one of *logins* (user:password), as far as *policy* permits.

    With *anonymous*, clients without a login get a token too. `requests` has the target of each
    request, and `granted` has the user and the scopes of each token.
    """

    def __init__(
        self,
        *logins: str,
        policy: Policy = all_for_users,
        anonymous: bool = False,
        lifetime: int = 300,
    ) -> None:
        self.pair: Pair = Authority(ISSUER).pair
        self.signer = Signer(self.pair.key, "ES256")
        self.signer.certificate = self.pair.certificate
        self.lifetime = lifetime
        self.requests: list[str] = []
        self.granted: list[tuple[str, tuple[str, ...]]] = []
        self._logins = dict(each.split(":", 1) for each in logins)
        self._policy = policy
        self._anonymous = anonymous
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Return the port of the server."""
        return int(self._server.server_address[1])

    @property
    def realm(self) -> str:
        """Return the URL at which clients request tokens."""
        return f"http://127.0.0.1:{self.port}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def claims(self, *scopes: str, user: str = "someone", **changed: Any) -> dict[str, Any]:
        """Return the claims of a token for *scopes*, with the changes in *changed*.

        A changed claim whose value is None is left out.
        """
        now = int(time.time())
        every = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": now + self.lifetime,
            "nbf": now - 10,
            "iat": now,
            "jti": str(len(self.requests)),
            "access": [access(scope) for scope in scopes],
        }
        return {name: each for name, each in (every | changed).items() if each is not None}

    def token(self, scopes: list[str], user: str = "someone") -> str:
        """Return a token for *scopes*, with the certificate of its key in the header."""
        return self.signer.sign(self.claims(*scopes, user=user), self.signer.chain())

    def respond(
        self, target: str, authorization: str | None, form: str | None = None
    ) -> tuple[int, bytes]:
        """Return status and body for a token request; *form* is the body of a POST."""
        self.requests.append(target)
        asked = parse_qs(urlsplit(target).query if form is None else form)
        user = self._user_of_form(asked) if form is not None else self._user(authorization)
        if user is None:
            return 401, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        if asked.get("service") != [SERVICE] or (form and asked.get("grant_type") != ["password"]):
            return 400, b'{"error":"invalid_request"}'
        scopes = [scope for each in asked.get("scope", []) for scope in each.split(" ") if scope]
        permitted = tuple(filter(None, (self._permitted(user, each) for each in scopes)))
        self.granted.append((user, permitted))
        token = self.token(list(permitted), user)
        key = "token" if form is None else "access_token"
        return 200, json.dumps({key: token, "expires_in": self.lifetime}).encode()

    def _user_of_form(self, asked: Mapping[str, list[str]]) -> str | None:
        name, password = asked.get("username", [""])[0], asked.get("password", [""])[0]
        return name if self._logins.get(name) == password else None

    def _user(self, authorization: str | None) -> str | None:
        """Return the user of a request, empty if anonymous; None if its login is wrong."""
        if authorization is None:
            return "" if self._anonymous else None
        kind, _, letters = authorization.partition(" ")
        text = base64.b64decode(letters).decode() if kind == "Basic" else ""
        name, _, password = text.partition(":")
        return name if self._logins.get(name) == password else None

    def _permitted(self, user: str, scope: str) -> str:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        allowed = self._policy(user, kind, name)
        left = [each for each in actions.split(",") if each in allowed]
        return f"{kind}:{name}:{','.join(left)}" if left else ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(server.respond(self.path, self.headers.get("Authorization")))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                self._send(server.respond(self.path, None, form))

            def _send(self, answer: tuple[int, bytes]) -> None:
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing, because the list `requests` has each request."""

        return Handler
