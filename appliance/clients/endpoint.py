"""Define the values that a client's configuration depends on, and the resulting files."""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.appliance.logins import Login
from entrepot.runtime.docker_hub import default_url
from entrepot.runtime.hostnames import is_loopback

_USUAL_PORT = 443  # 443 is the default port of https, which a name without a port means.


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An `Endpoint` states how clients reach an appliance, and which upstreams it mirrors.

    `host` is a name or an address, IPv6 in brackets. `ca` is the PEM of a private CA; None if the
    clients trust the certificate without it. `upstreams` are hosts, `globs` are patterns of hosts,
    `default` is the upstream of names without a host. `needs_login` states that a pull needs a
    password; `login` is such a login, if known.
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
        """Return host and port as they appear at the start of an image's name."""
        return self.host if self.tls and self.port == _USUAL_PORT else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL of the appliance."""
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Return the upstreams whose host is not on loopback: other machines can reach them too."""
        return tuple(each for each in self.upstreams if not is_loopback(each))

    def prefix(self, upstream: str) -> str:
        """Return the part of an image's name before the repository of *upstream*.

        A reference cannot contain a second colon: `host:port` becomes `host_port`.
        """
        return f"{self.netloc}/{upstream.replace(':', '_')}"


@dataclass(frozen=True, slots=True)
class File:
    """A `File` has a path on the client and a text; only its owner may read a `secret` file."""

    path: str
    text: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """A `Client` is a client's configuration: its files, and steps to install them, one a line."""

    title: str
    files: tuple[File, ...]
    steps: tuple[str, ...]


def origin(upstream: str) -> str:
    """Return the URL by which a client reaches an upstream without the appliance."""
    return default_url(upstream)
