"""Authentication for a fake upstream: Basic, or tokens of a token service."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, Self
from urllib.parse import parse_qs

from tests.wire import HONEST, Fault, HttpServer, Reply, Seen

_NAME = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")


class Gate(Protocol):
    """The authentication of a fake upstream, which checks each request."""

    def challenge(self, seen: Seen) -> str | None:
        """Return the header WWW-Authenticate of a 401, or None if the request is allowed."""
        ...


class BasicGate:
    """A gate that allows only requests with the right password of one of *users*."""

    def __init__(self, users: Mapping[str, str], realm: str = "fake") -> None:
        self._users = users
        self._realm = realm

    def challenge(self, seen: Seen) -> str | None:
        """Return a Basic challenge, or None if the request has the right password of a user."""
        if basic_user(seen, self._users) is not None:
            return None
        return f'Basic realm="{self._realm}"'


class TokenService:
    """A gate that allows only requests with a valid token, and the endpoint that issues the tokens.

    The token endpoint, whose URL is `realm`, listens on a separate port. Without *users* this
    endpoint issues a token for every request. With *users* a request needs a password, or one of
    `identity_tokens` (token -> user). Tokens are valid for `lifetime` seconds. `requests` has all
    requests to the token endpoint, and `issued` has the scope of each of these requests.
    """

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        *,
        lifetime: float = 300,
        key: str = "token",
        identity_tokens: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.users = users
        self.lifetime = lifetime
        self.key = key
        self.identity_tokens = identity_tokens or {}
        self.service = "fake.registry"
        self.realm: str | None = None
        self.fault: Fault = HONEST
        self.requests: list[Seen] = []
        self.issued: list[str] = []
        self._clock = clock
        self._valid: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._server = HttpServer(self._answer, tls)

    def __enter__(self) -> Self:
        self._server.start()
        self.realm = self.realm or f"{self._server.url}/token"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        """Return the token endpoint's real URL; a test may announce another one as `realm`."""
        return f"{self._server.url}/token"

    def revoke(self) -> None:
        """Make all issued tokens invalid before they expire."""
        with self._lock:
            self._valid.clear()

    def challenge(self, seen: Seen) -> str | None:
        """Return a Bearer challenge, or None if the request has a token for its repository."""
        match = _NAME.match(seen.path)
        scope = f"repository:{match[1]}:pull" if match else ""
        scheme, _, token = seen.headers.get("authorization", "").partition(" ")
        with self._lock:
            granted, until = self._valid.get(token, ("", 0.0))
        if scheme == "Bearer" and self._clock() < until and scope in ("", granted):
            return None
        suffix = f',scope="{scope}"' if scope else ""
        return f'Bearer realm="{self.realm}",service="{self.service}"{suffix}'

    def _answer(self, seen: Seen) -> tuple[Reply, Fault]:
        self.requests.append(seen)
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        scope = form.get("scope") or seen.query.get("scope", "")
        self.issued.append(scope)
        if self.fault.status is not None:
            return Reply(self.fault.status, body=self.fault.body or b""), self.fault
        if not self._is_authenticated(seen, form):
            return Reply(401, body=b'{"details": "no"}'), self.fault
        return Reply(200, {"Content-Type": "application/json"}, self._issue(scope)), self.fault

    def _is_authenticated(self, seen: Seen, form: Mapping[str, str]) -> bool:
        if seen.method == "POST":
            return form.get("refresh_token") in self.identity_tokens
        return self.users is None or basic_user(seen, self.users) is not None

    def _issue(self, scope: str) -> bytes:
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._valid[token] = (scope, self._clock() + self.lifetime)
        return json.dumps({self.key: token, "expires_in": self.lifetime}).encode()


def basic_user(seen: Seen, users: Mapping[str, str]) -> str | None:
    """Return the user of the request if its password is right, else None."""
    scheme, _, encoded = seen.headers.get("authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if scheme == "Basic" and users.get(user) == password else None
