"""Request tokens as clients do, from the token server that a challenge names as its realm."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import urllib3

from entrepot.appliance.doctor.finding import CannotContinue
from entrepot.appliance.logins import Login
from entrepot.registry.upstream.challenge import Challenge, parse_challenges

_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=10.0)  # s
_LARGEST: Final = 256 * 1024
_OK: Final = 200
_REFUSED: Final = (401, 403)
_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A `TokenResponse` is the response of a token server, whose URL is `realm`.

    `token` is empty if the server refused to issue one.
    """

    realm: str
    status: int
    token: str


class BearerTokens:
    """A `BearerTokens` requests tokens for one client, and only one token for each challenge."""

    def __init__(self, login: Login | None, trusting: ssl.SSLContext | None) -> None:
        self.login = login
        trusted = trusting or ssl.create_default_context()
        self._pool = urllib3.PoolManager(ssl_context=trusted, timeout=_TIMEOUT)
        self._known: dict[Challenge, TokenResponse] = {}

    def token(self, header: str) -> str:
        """Return a token for *header*, the value of a WWW-Authenticate header.

        The result is empty if the header has no Bearer challenge, or if the token server refuses
        to issue a token.

        Raises: CannotContinue if the token server does not respond, or responds without a token.
        """
        challenge = bearer(header)
        return self.respond(challenge).token if challenge else ""

    def respond(self, challenge: Challenge) -> TokenResponse:
        """Return the token server's response to *challenge*.

        Raises: CannotContinue if the token server does not respond, or responds without a token.
        """
        if challenge not in self._known:
            self._known[challenge] = self._request(challenge)
        return self._known[challenge]

    def _request(self, challenge: Challenge) -> TokenResponse:
        realm = urlsplit(challenge.realm)
        place = f"{realm.scheme}://{realm.netloc.rpartition('@')[2]}{realm.path}"
        if realm.scheme not in _SCHEMES or not realm.hostname:
            raise CannotContinue(f"the realm {place} is not a URL", "correct auth.token.realm")
        status, body = self._get(f"{challenge.realm}?{_query(challenge, self.login)}", place)
        if status in _REFUSED:
            return TokenResponse(place, status, "")
        token = _token(body) if status == _OK else ""
        if not token:
            why = f"{place} responds with {status}" + (" and no token" if status == _OK else "")
            raise CannotContinue(why, "check the token server, and auth.token.realm and .service")
        return TokenResponse(place, status, token)

    def _get(self, url: str, place: str) -> tuple[int, bytes]:
        headers = {"Authorization": self.login.basic} if self.login else {}
        try:
            response = self._pool.request(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False
            )
            body = response.read(_LARGEST, decode_content=False)
            response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise CannotContinue(
                f"{place} does not answer: {_reason(error)}",
                "check auth.token.realm, and that this host reaches the token server",
            ) from error
        return response.status, body


def bearer(header: str) -> Challenge | None:
    """Return the Bearer challenge of a WWW-Authenticate header; None if there is none."""
    return next((each for each in parse_challenges(header) if each.scheme == "bearer"), None)


def _query(challenge: Challenge, login: Login | None) -> str:
    asked = [("service", challenge.service)]
    asked += [("scope", each) for each in challenge.scope.split(" ") if each]
    asked += [("account", login.username)] if login else []
    return urlencode(asked)


def _token(body: bytes) -> str:
    try:
        found: Any = json.loads(body)
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""


def _reason(error: BaseException) -> str:
    inner = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.HTTPError) and inner is not None:
        return _reason(inner)
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.lower().rstrip(".")
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error).lower()[:200]
