"""What is known of an appliance by who configures its clients, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.appliance.logins import Login
from entrepot.config.address import is_loopback, url_of

_USUAL_PORT = 443  # of https: a name without a port means it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How clients reach an appliance, and what it has for them.

    `host` is a name or an address, IPv6 in brackets. `ca` is the PEM of a private authority; None
    when the clients trust the certificate anyway. `upstreams` are hosts, `globs` stand for hosts,
    `default` is where names without an upstream lead. `asks`: a pull needs a password, which
    `login` may be.
    """

    host: str
    port: int
    tls: bool
    ca: str | None = None
    upstreams: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    default: str | None = None
    asks: bool = False
    login: Login | None = None

    @property
    def netloc(self) -> str:
        """Host and port as an image's name begins with them."""
        return self.host if self.tls and self.port == _USUAL_PORT else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The upstreams that other machines can reach under the same name."""
        return tuple(each for each in self.upstreams if not is_loopback(each))

    def prefix(self, upstream: str) -> str:
        """Return what stands before a repository's name for the upstream's sake.

        A reference has no place for a second colon: `host:port` is `host_port` in it.
        """
        return f"{self.netloc}/{upstream.replace(':', '_')}"


@dataclass(frozen=True, slots=True)
class File:
    """One file: where the client looks for it, and its text; `secret`: for its owner alone."""

    path: str
    text: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """A client's configuration: its files, and what to do with them, a step a line."""

    title: str
    files: tuple[File, ...]
    steps: tuple[str, ...]


def origin(upstream: str) -> str:
    """Return where a client finds an upstream itself, as it would without us."""
    return url_of(upstream)
