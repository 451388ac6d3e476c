"""Read listen addresses, and the names and URLs of upstreams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from entrepot.config.errors import Unreadable
from entrepot.runtime import docker_hub
from entrepot.runtime.hostnames import is_loopback

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/]*)):(\d{1,5})", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::([1-9]\d{{0,4}}))?", re.ASCII)
_HIGHEST_PORT = 65535
# In a path that matches, no segment begins with a dot, so none is `.` or `..`.
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,16}", re.ASCII)
# RFC 3986, 3.2, allows underscores in a host name, and services in Docker Compose can have such
# names.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
# The path of the socket is inserted into haproxy.cfg. There, some characters outside this pattern
# have a special meaning; a comma, for example, separates two addresses.
_SOCKET = re.compile(r"/[A-Za-z0-9._~@+=/-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """An `Address` is a TCP address on which to listen.

    An empty `host` means all addresses. `str()` of an address returns `host:port`.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SocketPath:
    """A `SocketPath` is the absolute path of a unix socket on which to listen.

    `str()` of a socket path returns the path.

    Clients reach the socket through the operator's own proxy on this machine, usually over HTTPS.
    `host` and `port` are the address at which a client on this machine reaches that proxy.
    """

    path: str
    host: str = "localhost"
    port: int = 443
    is_loopback: bool = False

    def __str__(self) -> str:
        return self.path


def address(given: object) -> Address | SocketPath:
    """Read `host:port`, `:port`, or the absolute path of a unix socket. Raises: Unreadable."""
    if isinstance(given, SocketPath):
        return given
    text = str(given)
    if not text.startswith("/") and not text.endswith(".sock"):
        return tcp_address(given)
    if not _SOCKET.fullmatch(text):
        raise Unreadable("not the absolute path of a socket", "try /run/registry.sock")
    return SocketPath(text)


def tcp_address(given: object) -> Address:
    """Read `host:port` or `:port`. Raises: Unreadable."""
    if isinstance(given, Address):
        return given
    match = _LISTEN.fullmatch(str(given))
    if match is None or not 1 <= int(match[3]) <= _HIGHEST_PORT:
        raise Unreadable("not host:port", "try :5000 or 127.0.0.1:5000")
    return Address(match[1] or match[2] or "", int(match[3]))


def registry_host(given: object) -> str:
    """Read an upstream's name, `host` or `host:port`, and return it in lower case.

    Every name of Docker Hub becomes `docker.io`.

    Raises: Unreadable.
    """
    host = str(given).strip().lower()
    match = _HOST.fullmatch(host)
    if match is None or int(match[1] or 1) > _HIGHEST_PORT:
        raise Unreadable("not a registry's host", "try quay.io or registry.example:5000")
    return docker_hub.HOST if host in docker_hub.ALIASES else host


def registry_url(given: object) -> str:
    """Read an upstream's URL and return it without a trailing slash.

    If the URL has no scheme, the scheme is `http` for a loopback host and `https` for any other
    host.

    Raises: Unreadable.
    """
    text = str(given).strip()
    url = text if "://" in text else f"{docker_hub.scheme_of(text)}://{text}"
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise Unreadable("a URL that contains a password", "set username and password instead")
    if parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise Unreadable("not a registry's URL", "try https://registry.example")
    registry_host(parts.netloc)
    return url.rstrip("/")


def base_url(given: object) -> str:
    """Read the URL by which clients reach the appliance; return it without a trailing slash.

    Raises: Unreadable.
    """
    text = str(given).strip()
    parts = _split(text)
    scheme, path = parts.scheme.lower(), parts.path.rstrip("/")
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    is_path = not path or _PATH.fullmatch(path)
    is_host = _AUTHORITY.fullmatch(parts.netloc)
    if scheme not in {"http", "https"} or not (is_plain and is_host and is_path):
        raise Unreadable("not the appliance's URL", "try https://registry.example")
    return f"{scheme}://{parts.netloc}{path}"


def service_url(given: object) -> str:
    """Read the URL of a storage service and return it without a trailing slash.

    Raises: Unreadable.
    """
    try:
        return base_url(given)
    except Unreadable as error:
        remedy = "try https://images.blob.core.windows.net"
        raise Unreadable("not the URL of a service", remedy) from error


def cloud_domain(given: object) -> str:
    """Read the domain of an Azure cloud and return it in lower case. Raises: Unreadable."""
    try:
        return registry_host(given)
    except Unreadable as error:
        raise Unreadable("not the domain of a cloud", "try core.windows.net") from error


def prefix(given: object) -> str:
    """Read `http.prefix` and return it without a trailing slash; `/` means no prefix.

    Raises: Unreadable.
    """
    path = str(given).strip().rstrip("/")
    if path and not _PATH.fullmatch(path):
        raise Unreadable("not an absolute path of plain characters", "try /registry/")
    return path or "/"


def url_path(given: object) -> str:
    """Read the path of the metrics' URL; an empty text means `/metrics`. Raises: Unreadable."""
    path = str(given).strip() or "/metrics"
    if not _PATH.fullmatch(path):
        raise Unreadable("not an absolute path of plain characters", "try /metrics")
    return path


def realm_url(given: object) -> str:
    """Read a token service's URL and return it unchanged.

    The URL must stay unchanged because it is compared, as text, with the `realm` in an upstream's
    WWW-Authenticate header.

    Raises: Unreadable.
    """
    registry_url(given)
    return str(given).strip()


def host_of(url: str) -> str:
    """Return the name of the upstream (host and port) in *url*, a result of `registry_url`."""
    return registry_host(urlsplit(url).netloc)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise Unreadable("not a registry's URL", "try https://registry.example") from error
