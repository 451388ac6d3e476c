"""Makes the authenticator of the settings: `auth:` selects one of the schemes."""

from __future__ import annotations

from entrepot.config.schema import Settings
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.auth import basic
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.followed_rights import rights_in_force, users_of
from entrepot.registry.server.limit_reports import LimitReports
from entrepot.runtime.run_names import PASSWORDS


def authenticator(
    settings: Settings, invalidation: Invalidation, limited: LimitReports
) -> Authenticator:
    """Return the authenticator of the settings; *invalidation* watches the files that it reads.

    Raises: OSError, InvalidHtpasswd, UnusableKeys.
    """
    auth = settings.auth
    if auth.htpasswd is not None:
        return _passwords(settings, invalidation, limited)
    if auth.token is None and auth.silly is None:
        return OpenAuthenticator()
    # imported only if it is needed: PyJWT and cryptography take 80 ms and 10 MB
    from entrepot.registry import token_auth  # noqa: PLC0415

    return token_auth.of_server(settings, invalidation)


def _passwords(
    settings: Settings, invalidation: Invalidation, limited: LimitReports
) -> Authenticator:
    htpasswd = settings.auth.htpasswd
    assert htpasswd is not None  # noqa: S101 - the caller has checked it
    rights = rights_in_force(settings, invalidation)
    return basic.from_passwords(
        htpasswd.path,
        realm=htpasswd.realm,
        anonymous=settings.auth.anonymous,
        users=lambda: users_of(rights()),
        rules=lambda: rights().value.rules,
        kept=settings.run / PASSWORDS,
        watch=invalidation.watch,
        refused=lambda: limited("logins"),
    )
