"""The doctor's own HTTP client: one appliance, no retries, no redirects, every header in sight."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import urllib3

from entrepot.appliance.doctor.finding import CannotContinue
from entrepot.appliance.logins import Login

_CONNECT, _READ = 5.0, 120.0  # s
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the appliance is; `name` is what its certificate must be for."""

    host: str
    port: int
    name: str
    tls: ssl.SSLContext | None = None
    login: Login | None = None

    @property
    def url(self) -> str:
        """Where it is, as one writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """One answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def told(self) -> str:
        """What went wrong: the status, and the words of an OCI error envelope."""
        try:
            first = json.loads(self.body)["errors"][0]
            said = f"{self.status} {first['code']}: {first['message']}"
        except (ValueError, KeyError, IndexError, TypeError):
            said = str(self.status)
        wait = self.headers.get("retry-after")
        return f"{said} (try again in {wait} s)" if wait else said


class BodySink(Protocol):
    """Takes an answer's body, piece by piece."""

    def extend(self, piece: bytes, /) -> None:
        """Take the next one."""
        ...


class ApplianceClient:
    """Asks one appliance. Raises: Ill when there is no answer."""

    def __init__(self, place: ServerAddress) -> None:
        self.place = place
        self._pool = _pool(place)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Ask, and keep the answer's body."""
        body = bytearray()
        answer = self.read(method, path, headers or {}, body)
        return replace(answer, body=bytes(body))

    def read(
        self, method: str, path: str, headers: Mapping[str, str], sink: BodySink
    ) -> ClientResponse:
        """Ask, and pass the answer's body on as it comes."""
        try:
            response = self._pool.urlopen(
                method,
                path,
                headers={**self._usual(), **headers},
                preload_content=False,
                redirect=False,
                retries=False,
            )
            for piece in response.stream(_PIECE, decode_content=False):
                sink.extend(piece)
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CannotContinue(f"{method} {path}: {_said(error)}") from error
        return ClientResponse(
            response.status, {key.lower(): each for key, each in response.headers.items()}
        )

    def anonymous(self) -> ApplianceClient:
        """Return one who knows no password."""
        return ApplianceClient(replace(self.place, login=None))

    def _usual(self) -> dict[str, str]:
        # as containerd asks: an appliance that compressed would break lengths and ranges
        usual = {"Accept-Encoding": "zstd, gzip, deflate", "User-Agent": "entrepot-doctor"}
        if self.place.login:
            usual["Authorization"] = self.place.login.basic
        return usual


def _pool(place: ServerAddress) -> urllib3.HTTPConnectionPool:
    timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
    if place.tls is None:
        return urllib3.HTTPConnectionPool(place.host, place.port, timeout=timeout)
    return urllib3.HTTPSConnectionPool(
        place.host,
        place.port,
        timeout=timeout,
        ssl_context=place.tls,
        server_hostname=place.name,
        assert_hostname=place.name,
    )


def _said(error: BaseException) -> str:
    """Return what the system said, without the wrappings of those who passed it on."""
    inner = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.HTTPError) and inner is not None:
        return _said(inner)
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error).lower()
