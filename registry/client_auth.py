"""Make the authenticator that the section `auth:` of the settings selects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.config.schema import Settings
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.followed_rights import rights_in_force
from entrepot.registry.passwords import PasswordLogins
from entrepot.registry.server.limit_reports import LimitReports


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """A `ClientAuth` holds the authenticator.

    `token_endpoint` returns the resource that issues tokens; it is None if tokens are not issued.
    """

    authenticator: Authenticator
    token_endpoint: Callable[[Authorization], object] | None = None


def client_auth(
    settings: Settings, invalidation: Invalidation, limited: LimitReports
) -> ClientAuth:
    """Return the configured authenticator; *invalidation* watches the files of passwords and keys.

    Raises: OSError, InvalidHtpasswd, UnusableKeys.
    """
    auth = settings.auth
    if auth.htpasswd is not None:
        rights = rights_in_force(settings, invalidation)
        passwords = PasswordLogins(settings, auth.htpasswd, rights, invalidation, limited)
        if not auth.htpasswd.token:
            return ClientAuth(passwords.authenticator())
        # Only a worker with token authentication imports `token_auth`, because PyJWT and
        # cryptography take 80 ms and 10 MB.
        from entrepot.registry import token_auth  # noqa: PLC0415

        return ClientAuth(*token_auth.with_own_tokens(settings, passwords, invalidation))
    if auth.token is None and auth.silly is None:
        return ClientAuth(OpenAuthenticator())
    from entrepot.registry import token_auth  # noqa: PLC0415 - as above

    return ClientAuth(token_auth.of_server(settings, invalidation))
