"""Define `Endpoint`, which describes an appliance, and the client configuration made from it."""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.appliance.logins import Login
from entrepot.runtime.docker_hub import default_url
from entrepot.runtime.hostnames import is_loopback

_USUAL_PORT = 443  # An image's name without a port means this port, the default of https.


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An `Endpoint` states how clients reach an appliance, and which upstreams it mirrors.

    `host` is a name or an address, IPv6 in brackets. `ca` is the PEM text of a private CA, or None
    if clients trust the certificate anyway. `upstreams` are hosts, and `globs` are patterns of
    hosts. `default` is the upstream of image names without a host. If `needs_login` is true, a pull
    needs a password. `login` is the login that the configuration files shall contain, or None.
    """

    host: str
    port: int
    tls: bool
    ca: str | None = None
    upstreams: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    default: str | None = None
    needs_login: bool = False
    login: Login | None = None

    @property
    def netloc(self) -> str:
        """Return the address as in an image's name: HOST:PORT, or HOST for TLS at port 443."""
        return self.host if self.tls and self.port == _USUAL_PORT else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL of the appliance."""
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Return the upstreams that other machines can reach, that is, those not on loopback."""
        return tuple(each for each in self.upstreams if not is_loopback(each))

    def prefix(self, upstream: str) -> str:
        """Return the prefix by which an image of *upstream* is pulled through the appliance.

        An image's name may contain only one port, so the upstream `host:port` becomes `host_port`.
        """
        return f"{self.netloc}/{upstream.replace(':', '_')}"


@dataclass(frozen=True, slots=True)
class File:
    """A `File` is a file to create on the client: `path` is its path, and `text` its content.

    If `secret` is true, only the owner of the file may read it.
    """

    path: str
    text: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """A `Client` is the configuration of a client: files, and lines on how to install them."""

    title: str
    files: tuple[File, ...]
    steps: tuple[str, ...]


def origin(upstream: str) -> str:
    """Return the URL by which a client reaches an upstream without the appliance."""
    return default_url(upstream)
