"""Find the credentials for an upstream in its settings or in the pull secret."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.runtime.urls import authority_of


@dataclass(frozen=True, slots=True)
class Credential:
    """A `Credential` is a user name with a password, or a token; its `repr` shows no secret.

    The token endpoint exchanges an identity token for a bearer token. A registry token is sent to
    the registry unchanged.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)
    registry_token: str | None = field(default=None, repr=False)


class SecretEntry(Protocol):
    """A `SecretEntry` is the entry of a pull secret for one host or path."""

    @property
    def username(self) -> str | None:
        """Return the user name of the entry."""
        ...

    @property
    def password(self) -> str | None:
        """Return the password of the entry."""
        ...

    @property
    def identity_token(self) -> str | None:
        """Return the token that replaces user name and password at the token endpoint."""
        ...

    @property
    def registry_token(self) -> str | None:
        """Return the bearer token that is sent to the registry itself."""
        ...


class PullSecret(Protocol):
    """A `PullSecret` is the parsed content of a pull secret."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that the pull secret names in full, without globs."""
        ...

    def names(self, host: str) -> bool:
        """Return whether an entry of the pull secret names *host*, in full or by a glob."""
        ...

    def lookup(self, host: str, repository: str) -> SecretEntry | None:
        """Return the pull secret's entry of the longest matching path; None if no path matches."""
        ...


Secret = Callable[[], PullSecret | None]
"""A `Secret` returns the current pull secret, which can change at any time, or None."""


class Credentials(Protocol):
    """A `Credentials` returns the credentials for the repositories of one upstream."""

    def find(self, repository: str) -> Credential | None:
        """Return the credential for *repository*, or None if requests are anonymous.

        Raises: Unavailable if the credential cannot be read.
        """
        ...


class SecretCredentials:
    """A `SecretCredentials` returns the credentials that the pull secret contains for `host`."""

    def __init__(self, host: str, secret: Secret) -> None:
        self._host = host
        self._secret = secret

    def find(self, repository: str) -> Credential | None:
        """Return the credential in the current pull secret, or None if the secret has none."""
        secret = self._secret()
        entry = secret.lookup(self._host, repository) if secret is not None else None
        if entry is None or not (entry.username or entry.identity_token or entry.registry_token):
            return None
        tokens = (entry.identity_token or None, entry.registry_token or None)
        return Credential(entry.username or "", entry.password or "", *tokens)


class SourceCredentials:
    """A `SourceCredentials` returns the credential in an upstream's settings.

    It rereads a password file after the file has changed.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._password = config.password or ""

    def find(self, repository: str) -> Credential | None:  # noqa: ARG002 - one for all repositories
        """Return the credential in the settings.

        Raises: Unavailable if the password file cannot be read.
        """
        if self._config.password_file is None:
            return Credential(self._config.username or "", self._password)
        with self._lock:
            self._refresh(self._config.password_file)
            return Credential(self._config.username or "", self._password)

    def _refresh(self, path: Path) -> None:
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            self._password = path.read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            message = f"the upstream's password file cannot be read: {error}"
            raise Unavailable(self._config.host, message, Why.NONSENSE) from error
        self._stamp = stamp


def credentials_for(config: UpstreamConfig, secret: Secret) -> Credentials:
    """Return the credentials of the upstream's settings, or else those of the pull secret.

    A credential helper takes precedence over a password, as in docker distribution.
    """
    if config.helper is not None:
        # The imported module loads `subprocess`, so a worker imports it only if a helper is
        # configured.
        from entrepot.registry.upstream.credential_helper import (  # noqa: PLC0415
            HelperCredentials,
        )

        host = authority_of(config.url)
        return HelperCredentials(config.helper, host, config.helper_lifetime)
    if config.username is not None:
        return SourceCredentials(config)
    return SecretCredentials(config.host, secret)
