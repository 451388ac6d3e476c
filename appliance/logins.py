"""Read the login for an appliance from USER:PASSWORD, or from the file auth.json of podman."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from entrepot import config
from entrepot.config.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Login:
    """A `Login` is a user name and its password."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Return the value of an Authorization header with this login (RFC 7617)."""
        pair = f"{self.username}:{self.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def login_in(path: str, netloc: str) -> Login:
    """Find the login for *netloc* (host and port) in an auth.json.

    Raises: ConfigError if the file cannot be read or has no such login.
    """
    return login_from(secret_in(path), path, netloc)


def secret_in(path: str) -> bytes:
    """Read an auth.json of podman. Raises: ConfigError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        why, remedy = (error.strerror or str(error)).lower(), f"podman login --authfile {path} HOST"
        raise ConfigError([Problem(f"--authfile={path}", why, remedy)]) from error


def login_from(text: bytes, path: str, netloc: str) -> Login:
    """Find the login for *netloc* in *text*, the content of the auth.json at *path*.

    Raises: ConfigError if the file has no such login.
    """
    remedy = f"podman login --authfile {path} {netloc}"
    found = config.parse_pull_secret(text, source=path).lookup(netloc, "")
    if found is None:
        raise ConfigError([Problem(path, f"the file has no login for {netloc}", remedy)])
    return Login(found.username, found.password)


def login_of(pair: str) -> Login:
    """Parse USER:PASSWORD. Raises: ConfigError if the text has no colon."""
    username, colon, password = pair.partition(":")
    if not colon:
        remedy = "give USER:PASSWORD, or --authfile"
        raise ConfigError([Problem("--user", "the value has no password", remedy)])
    return Login(username, password)
