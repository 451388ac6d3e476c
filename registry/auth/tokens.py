"""Authenticates clients by bearer tokens (RFC 6750), as docker distribution's `auth.token` does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from entrepot.registry.auth.identity import Identity, LoginSource
from entrepot.registry.auth.rules import ALL, AccessRules
from entrepot.registry.auth.token_grant import Claims, TokenGrant
from entrepot.registry.challenges import BearerChallenge
from entrepot.registry.errors import InvalidToken

_BEARER = re.compile(r"bearer +(.+)", re.IGNORECASE | re.ASCII | re.DOTALL)

Owner = Callable[[Claims], Identity]
"""An `Owner` returns the identity of a token's user, without the limits of the token.

Raises: InvalidToken if the user may not use it any more.
"""


class TokenlessIdentifier(Protocol):
    """Identifies clients that send no bearer token (`BasicAuthenticator`)."""

    def identify(self, authorization: str | None) -> Identity:
        """Return the client's identity."""
        ...

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the identity for a credential that comes from *source*."""
        ...

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified."""
        ...


class TokenAuthenticator:
    """Accepts the tokens that *grant_of* accepts; *owner* has the rights of a token's user.

    *passwords* identifies clients that send no bearer token. A refused token makes the client
    anonymous, with the rights of one without credentials.
    """

    def __init__(
        self,
        grant_of: Callable[[str], TokenGrant],
        owner: Owner,
        passwords: TokenlessIdentifier,
        challenge: BearerChallenge,
    ) -> None:
        self._grant_of = grant_of
        self._owner = owner
        self._passwords = passwords
        self._refused = challenge.failed("invalid_token")

    def identify(self, authorization: str | None) -> Identity:
        """Return the identity of a token's user, limited by the token."""
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify(authorization)

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the identity; *source* is for the check of a password."""
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify_from(authorization, source)

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified.

        Each worker verifies a token once itself, which costs little more than to read its claims.
        """
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify_verified(authorization)

    def _of(self, token: str) -> Identity:
        try:
            grant = self._grant_of(token)
            return replace(self._owner(grant.claims), token=grant)
        except InvalidToken as error:
            return replace(
                self._passwords.identify(None),
                challenge=self._refused,
                has_wrong_credentials=True,
                refusal=f"token: {error}",
            )


class TokensOnly:
    """Rejects passwords: clients without a token are anonymous and have no rights."""

    def __init__(self, challenge: BearerChallenge) -> None:
        self._nothing = Identity(None, challenge=challenge)
        self._password = replace(
            self._nothing, has_wrong_credentials=True, refusal="a password instead of a token"
        )

    def identify(self, authorization: str | None) -> Identity:
        """Return an anonymous identity without rights."""
        return self._password if authorization else self._nothing

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:  # noqa: ARG002 - of the protocol
        """Return an anonymous identity without rights."""
        return self.identify(authorization)

    def identify_verified(self, authorization: str) -> Identity:
        """Return an anonymous identity without rights."""
        return self.identify(authorization)


def owner_by_rules(rules: Callable[[], AccessRules | None]) -> Owner:
    """Return an `Owner`: a token's user has the rights of *rules*, or all if there are none.

    A token without a user has the rights of a client without a name.
    """

    def owner(claims: Claims) -> Identity:
        user = claims.subject or None
        current = rules()
        granted = current.of(user) if current else None
        return Identity(user, granted.actions if granted else ALL, granted=granted)

    return owner


def _token(authorization: str | None) -> str | None:
    match = _BEARER.fullmatch(authorization.strip(" \t")) if authorization else None
    return match[1] if match else None
