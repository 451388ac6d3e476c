"""Fetches bearer tokens and keeps them until shortly before they expire."""

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
from entrepot.registry.upstream.wire import Answer, ConnectionBroken, Request, Wire
from entrepot.runtime.clock import elapsed

# distribution's token spec: a token without `expires_in` lives this long, and none lives less
_SHORTEST = 60.0
_LONGEST = 86400.0
_LARGEST = 256 * 1024
_MOST_VALUES = 10_000
_SLOT_BYTES = 1024  # of a key, its texts and a lock
_LONGEST_TOKEN = 16 * 1024
_LONGEST_DATE = 64
_MOST_KEPT = 4096
_MOST_BYTES = 2 * 1024 * 1024
"""Of the tokens of one upstream: 500 to 1,000 usual ones."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What one token is good for, and whose it is."""

    credential: Credential | None
    realm: str
    service: str
    scope: str


@dataclass(slots=True)
class _Slot:
    """One token, fetched by one thread at a time; `until` on the clock that counts suspension."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    until: float = 0.0


Fetch = Callable[[TokenKey], tuple[str, float]]
"""Returns a token and its life in s."""


class Tokens:
    """Keeps tokens by all that they depend on; safe in any thread."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = elapsed) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: dict[TokenKey, _Slot] = {}

    def get(self, key: TokenKey, refused: str | None = None) -> str:
        """Return a token that is not the *refused* one; who comes meanwhile waits for it."""
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
        held = sum(_SLOT_BYTES + len(slot.token) for slot in self._slots.values())
        return len(self._slots) >= _MOST_KEPT or held >= _MOST_BYTES

    def _sweep(self) -> None:
        """Drop what has expired; with nothing expired, drop all: a token can be had again."""
        now = self._clock()
        live = {key: slot for key, slot in self._slots.items() if slot.until > now}
        self._slots = live
        if self._is_full():
            self._slots = {}


class TokenRefused(Exception):  # noqa: N818 - the class says the fact
    """The token endpoint answered with an error; `answer` is closed and tells its status."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"its token endpoint answers {answer.status}")
        self.answer = answer


def fetch_token(
    wire: Wire, key: TokenKey, headers: Mapping[str, str], *, insecure: bool
) -> tuple[str, float]:
    """Ask the realm for a token; return it with its life in s.

    Raises: Broken, TokenRefused.
    """
    identity = key.credential.identity_token if key.credential else None
    if identity:
        answer = wire.send(_refresh(key, identity, headers))
    else:
        home = origin_of(key.realm)
        answer = follow(wire, _ask(key, headers), home=home, insecure=insecure)
    try:
        if answer.status != 200:  # noqa: PLR2004 - the one that is a token
            raise TokenRefused(answer)
        return read_token(answer.read(_LARGEST), answer.headers)
    finally:
        answer.close()


def read_token(body: bytes, headers: Mapping[str, str]) -> tuple[str, float]:
    """Read a token and what is left of its life [s]. Raises: Broken."""
    try:
        document = bounded_json.loads(body, _MOST_VALUES)
    except ValueError as error:
        raise ConnectionBroken(
            "its token endpoint answers what is no token", Why.NONSENSE
        ) from error
    if not isinstance(document, dict):
        raise ConnectionBroken("its token endpoint answers what is no token", Why.NONSENSE)
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ConnectionBroken("its token endpoint answers without a token", Why.NONSENSE)
    if len(token) > _LONGEST_TOKEN:
        raise ConnectionBroken(f"its token is longer than {_LONGEST_TOKEN} bytes", Why.NONSENSE)
    life = _life(document.get("expires_in")) - _age(document.get("issued_at"), headers)
    return token, max(life, _SHORTEST)


def _life(said: object) -> float:
    """Read `expires_in` [s]: from a minute, which is the default, to a day. Raises: Broken."""
    try:
        life = float(said or _SHORTEST)  # type: ignore[arg-type]  # anything may stand there
    except OverflowError:  # a number of hundreds of digits
        return _LONGEST
    except (ValueError, TypeError) as error:
        raise ConnectionBroken("its token has a life that is no number", Why.NONSENSE) from error
    return min(life, _LONGEST) if life >= _SHORTEST else _SHORTEST  # NaN is no life either


def basic(credential: Credential) -> str:
    """Return the Authorization of a user and a password: RFC 7617."""
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _ask(key: TokenKey, headers: Mapping[str, str]) -> Request:
    service = [("service", key.service)] if key.service else []
    query = urlencode([*service, *(("scope", each) for each in key.scope.split())])
    joint = "&" if "?" in key.realm else "?"
    credential = sealed(key.realm, basic(key.credential)) if key.credential else None
    return Request("GET", f"{key.realm}{joint}{query}", headers, credential=credential)


def _refresh(key: TokenKey, identity: str, headers: Mapping[str, str]) -> Request:
    """Trade an identity token, as distribution's OAuth2 spec has it."""
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
    """Return how old a token is by the clock of who issued it, in s; 0 where nobody says."""
    try:
        issued = dt.datetime.fromisoformat(str(issued_at)[:_LONGEST_DATE])
        now = parsedate_to_datetime(headers.get("Date", "")[:_LONGEST_DATE])
        return max((now - issued).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
