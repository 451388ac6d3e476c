"""Whose password an upstream is told: the operator's own, or the pull secret's for that path."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.upstream_config import UpstreamConfig


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a password, or a token; none of it is ever printed.

    An identity token is exchanged at the token endpoint; a registry token is sent as it is.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)
    registry_token: str | None = field(default=None, repr=False)


class SecretEntry(Protocol):
    """What a pull secret offers for one path."""

    @property
    def username(self) -> str | None:
        """The user's name."""
        ...

    @property
    def password(self) -> str | None:
        """The password."""
        ...

    @property
    def identity_token(self) -> str | None:
        """The token that stands for both."""
        ...

    @property
    def registry_token(self) -> str | None:
        """The token that the registry itself takes."""
        ...


class PullSecret(Protocol):
    """The pull secret in force."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that it names, globs left out."""
        ...

    def names(self, host: str) -> bool:
        """Tell whether a key, or a glob label by label, names this host."""
        ...

    def lookup(self, host: str, repository: str) -> SecretEntry | None:
        """Return the entry of the longest path that matches; None: nobody in particular."""
        ...


Secret = Callable[[], PullSecret | None]
"""Returns the pull secret in force now, which may be another a moment later."""


class Credentials(Protocol):
    """Tells the credential for a repository of one upstream."""

    def find(self, repository: str) -> Credential | None:
        """Return None for nobody in particular. Raises: Unavailable."""
        ...


class SecretCredentials:
    """What the pull secret says for `host`."""

    def __init__(self, host: str, secret: Secret) -> None:
        self._host = host
        self._secret = secret

    def find(self, repository: str) -> Credential | None:
        """Return what the secret says now."""
        secret = self._secret()
        entry = secret.lookup(self._host, repository) if secret is not None else None
        if entry is None or not (entry.username or entry.identity_token or entry.registry_token):
            return None
        tokens = (entry.identity_token or None, entry.registry_token or None)
        return Credential(entry.username or "", entry.password or "", *tokens)


class SourceCredentials:
    """What the operator said of this upstream; a password file is read again when it changes."""

    def __init__(self, source: UpstreamConfig) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._password = source.password or ""

    def find(self, repository: str) -> Credential | None:  # noqa: ARG002 - one for all of them
        """Return the operator's. Raises: Unavailable while its file can't be read."""
        if self._source.password_file is None:
            return Credential(self._source.username or "", self._password)
        with self._lock:
            self._refresh(self._source.password_file)
            return Credential(self._source.username or "", self._password)

    def _refresh(self, path: Path) -> None:
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            self._password = path.read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            message = f"its password file cannot be read: {error}"
            raise Unavailable(self._source.host, message, Why.NONSENSE) from error
        self._stamp = stamp


def credentials_for(source: UpstreamConfig, secret: Secret) -> Credentials:
    """Choose: what the operator said of this upstream wins over the pull secret."""
    if source.username is not None:
        return SourceCredentials(source)
    return SecretCredentials(source.host, secret)
