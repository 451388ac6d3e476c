"""Fetch bearer tokens, and cache the tokens until shortly before they expire."""

from __future__ import annotations

import base64
import datetime as dt
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

from entrepot.datastore import bounded_json
from entrepot.registry.errors import Why
from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.redirects import follow
from entrepot.registry.upstream.urls import origin_of, sealed
from entrepot.registry.upstream.wire import ConnectionBroken, Request, Response, Wire
from entrepot.runtime.clock import elapsed

# The default and the minimum of `expires_in` (in seconds) are those of docker distribution's token
# specification.
_SHORTEST = 60.0
_LONGEST = 86400.0
_LARGEST = 256 * 1024
_MOST_VALUES = 10_000
_SLOT_BYTES = 1024  # A cache entry uses this many bytes of memory in addition to its token.
_LONGEST_TOKEN = 16 * 1024
_LONGEST_DATE = 64
_MOST_KEPT = 4096
_MOST_BYTES = 2 * 1024 * 1024
"""The tokens of one upstream use at most this many bytes: 500 to 1,000 tokens of usual size."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A `TokenKey` is the credential, realm, service and scope for which a token is issued."""

    credential: Credential | None
    realm: str
    service: str
    scope: str


@dataclass(slots=True)
class _Slot:
    """A `_Slot` holds one cached token; its lock lets one thread at a time fetch the token.

    `until` is the time of expiry (in seconds) on the clock `runtime.clock.elapsed`, which also
    counts the time during which the system is suspended.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    until: float = 0.0


Fetch = Callable[[TokenKey], tuple[str, float]]
"""A `Fetch` returns a token and its lifetime in seconds."""


class Tokens:
    """A `Tokens` caches tokens by `TokenKey`, safely in any thread."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = elapsed) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: dict[TokenKey, _Slot] = {}

    def get(self, key: TokenKey, refused: str | None = None) -> str:
        """Return the cached token, or fetch one if it is missing, expired or equal to *refused*.

        Concurrent callers with the same key wait for one fetch.
        """
        slot = self._slot(key)
        with slot.lock:
            if self._clock() >= slot.until or slot.token == refused:
                slot.until = 0.0
                slot.token, life = self._fetch(key)
                slot.until = self._clock() + life - min(life / 10, 10.0)
            return slot.token

    def _slot(self, key: TokenKey) -> _Slot:
        with self._lock:
            if key not in self._slots and self._is_full():
                self._sweep()
            return self._slots.setdefault(key, _Slot())

    def _is_full(self) -> bool:
        used = sum(_SLOT_BYTES + len(slot.token) for slot in self._slots.values())
        return len(self._slots) >= _MOST_KEPT or used >= _MOST_BYTES

    def _sweep(self) -> None:
        """Drop expired tokens from the cache.

        If the cache of tokens is still full, drop all tokens, because tokens can be fetched again.
        """
        now = self._clock()
        live = {key: slot for key, slot in self._slots.items() if slot.until > now}
        self._slots = live
        if self._is_full():
            self._slots = {}


class TokenRefused(Exception):  # noqa: N818 - the name states the fact
    """The token endpoint responded with an error; `response` is closed and has the status."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"the upstream's token endpoint responds {response.status}")
        self.response = response


def fetch_token(
    wire: Wire, key: TokenKey, headers: Mapping[str, str], *, insecure: bool
) -> tuple[str, float]:
    """Request a token from the realm; return the token and its lifetime in seconds.

    Raises: ConnectionBroken, TokenRefused.
    """
    identity = key.credential.identity_token if key.credential else None
    if identity:
        response = wire.send(_exchange_request(key, identity, headers))
    else:
        home = origin_of(key.realm)
        response = follow(wire, _get_request(key, headers), home=home, insecure=insecure)
    try:
        if response.status != 200:  # noqa: PLR2004 - the only success
            raise TokenRefused(response)
        return read_token(response.read(_LARGEST), response.headers)
    finally:
        response.close()


def read_token(body: bytes, headers: Mapping[str, str]) -> tuple[str, float]:
    """Return the token in a response and the token's remaining lifetime in seconds.

    Raises: ConnectionBroken (NONSENSE).
    """
    try:
        document = bounded_json.loads(body, _MOST_VALUES)
    except ValueError as error:
        raise ConnectionBroken(
            "the upstream's token endpoint sent an invalid response", Why.NONSENSE
        ) from error
    if not isinstance(document, dict):
        raise ConnectionBroken(
            "the upstream's token endpoint sent an invalid response", Why.NONSENSE
        )
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ConnectionBroken("the upstream's token endpoint sent no token", Why.NONSENSE)
    if len(token) > _LONGEST_TOKEN:
        raise ConnectionBroken(
            f"the upstream's token is longer than {_LONGEST_TOKEN} bytes", Why.NONSENSE
        )
    life = _life(document.get("expires_in")) - _age(document.get("issued_at"), headers)
    return token, max(life, _SHORTEST)


def _life(expires_in: object) -> float:
    """Return a token's lifetime in seconds, which is from a minute (the default) to a day.

    Raises: ConnectionBroken if `expires_in` is not a number.
    """
    try:
        life = float(expires_in or _SHORTEST)  # type: ignore[arg-type]  # any JSON value
    except OverflowError:  # The lifetime of the token is a number with hundreds of digits.
        return _LONGEST
    except (ValueError, TypeError) as error:
        raise ConnectionBroken(
            "the lifetime of the upstream's token is not a number", Why.NONSENSE
        ) from error
    # A NaN becomes the shortest lifetime, because every comparison with NaN is false.
    return min(life, _LONGEST) if life >= _SHORTEST else _SHORTEST


def basic(credential: Credential) -> str:
    """Return the value of the Authorization header for a user name and a password (RFC 7617)."""
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _get_request(key: TokenKey, headers: Mapping[str, str]) -> Request:
    service = [("service", key.service)] if key.service else []
    query = urlencode([*service, *(("scope", each) for each in key.scope.split())])
    separator = "&" if "?" in key.realm else "?"
    credential = sealed(key.realm, basic(key.credential)) if key.credential else None
    return Request("GET", f"{key.realm}{separator}{query}", headers, credential=credential)


def _exchange_request(key: TokenKey, identity: str, headers: Mapping[str, str]) -> Request:
    """Return the request that exchanges an identity token for a bearer token.

    The request has the form of distribution's OAuth2 specification.
    """
    form = {
        "grant_type": "refresh_token",
        "service": key.service,
        "client_id": "entrepot",
        "scope": key.scope,
        "refresh_token": identity,
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", key.realm, {**headers, **kind}, urlencode(form).encode())


def _age(issued_at: object, headers: Mapping[str, str]) -> float:
    """Return a token's age in seconds by the token endpoint's clock.

    If the endpoint did not send two valid dates, return 0.
    """
    try:
        issued = dt.datetime.fromisoformat(str(issued_at)[:_LONGEST_DATE])
        now = parsedate_to_datetime(headers.get("Date", "")[:_LONGEST_DATE])
        return max((now - issued).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
