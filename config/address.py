"""Where to listen, and how an upstream is named and reached."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from config.errors import Unreadable

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/]*)):(\d{1,5})", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::([1-9]\d{{0,4}}))?", re.ASCII)
_HIGHEST_PORT = 65535

DOCKER_HUB = "docker.io"
# Docker Hub under the names that its clients have given it over the years.
_DOCKER_HUBS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_URL = "https://registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on; an empty `host` is all of them. `str()` gives `host:port` back."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(given: object) -> Address:
    """Read `host:port` or `:port`. Raises: Unreadable."""
    if isinstance(given, Address):
        return given
    match = _LISTEN.fullmatch(str(given))
    if match is None or not 1 <= int(match[3]) <= _HIGHEST_PORT:
        raise Unreadable("not host:port", "try :5000 or 127.0.0.1:5000")
    return Address(match[1] or match[2] or "", int(match[3]))


def registry_host(given: object) -> str:
    """Read an upstream's name, `host` or `host:port`, in lower case and one name for Docker Hub.

    Raises: Unreadable.
    """
    host = str(given).strip().lower()
    match = _HOST.fullmatch(host)
    if match is None or int(match[1] or 1) > _HIGHEST_PORT:
        raise Unreadable("not a registry's host", "try quay.io or registry.example:5000")
    return DOCKER_HUB if host in _DOCKER_HUBS else host


def registry_url(given: object) -> str:
    """Read an upstream's URL, without a slash at its end; a host alone gets its scheme.

    Raises: Unreadable.
    """
    text = str(given).strip()
    url = text if "://" in text else f"{_scheme(text)}://{text}"
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise Unreadable("a URL with a password in it", "set username and password beside it")
    if parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise Unreadable("not a registry's URL", "try https://registry.example")
    registry_host(parts.netloc)
    return url.rstrip("/")


def realm_url(given: object) -> str:
    """Read a token service's URL, as it is: it is compared with what an upstream announces.

    Raises: Unreadable.
    """
    registry_url(given)
    return str(given).strip()


def host_of(url: str) -> str:
    """Name the upstream that *url*, as `registry_url` has read it, leads to."""
    return registry_host(urlsplit(url).netloc)


def url_of(host: str) -> str:
    """Give the URL of an upstream of which only the name is known."""
    return _DOCKER_HUB_URL if host == DOCKER_HUB else f"{_scheme(host)}://{host}"


def is_loopback(host: str) -> bool:
    """Say whether *host*, with or without a port, is this machine."""
    name = bare(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bare(host: str) -> str:
    """Take the port and the brackets off a host."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _scheme(host: str) -> str:
    # As Docker does: this machine's own registries rarely have a certificate.
    return "http" if is_loopback(host.partition("/")[0].lower()) else "https"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise Unreadable("not a registry's URL", "try https://registry.example") from error
