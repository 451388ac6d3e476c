"""Authenticate clients by bearer tokens (RFC 6750), as docker distribution's `auth.token` does."""

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

Raises: InvalidToken if the user's password has changed since the token was issued.
"""


class TokenlessIdentifier(Protocol):
    """A `TokenlessIdentifier`, such as `BasicAuthenticator`, identifies clients without a token."""

    def identify(self, authorization: str | None) -> Identity:
        """Return the identity of the client with this Authorization header."""
        ...

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the identity for a credential; *source* selects the queue of a password check."""
        ...

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified."""
        ...


class TokenAuthenticator:
    """A `TokenAuthenticator` verifies tokens with *grant_of*; *owner* identifies a token's user.

    *passwords* identifies clients that send no bearer token. A client with a refused token is
    anonymous and has the rights of a client without credentials.
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
        """Identify the client by its token, which limits its rights, or else by its password."""
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify(authorization)

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the client's identity; only a password check uses *source*."""
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify_from(authorization, source)

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified.

        Even if HAProxy has verified a token, each worker verifies the token itself once, because
        the verification takes little more time than reading the token's claims.
        """
        token = _token(authorization)
        return self._of(token) if token else self._passwords.identify_verified(authorization)

    def _of(self, token: str) -> Identity:
        try:
            grant = self._grant_of(token)
            return self._owner(grant.claims).limited_by(grant)
        except InvalidToken as error:
            return replace(
                self._passwords.identify(None),
                challenge=self._refused,
                has_wrong_credentials=True,
                refusal=f"the token was refused: {error}",
            )


class TokensOnly:
    """A `TokensOnly` rejects passwords.

    Clients without a token are anonymous and have no rights.
    """

    def __init__(self, challenge: BearerChallenge) -> None:
        self._nothing = Identity(None, challenge=challenge)
        self._password = replace(
            self._nothing,
            has_wrong_credentials=True,
            refusal="the client sent a password instead of a token",
        )

    def identify(self, authorization: str | None) -> Identity:
        """Return an anonymous identity without rights."""
        return self._password if authorization else self._nothing

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:  # noqa: ARG002 - part of the protocol
        """Return the result of `identify`: no password is checked, so *source* has no effect."""
        return self.identify(authorization)

    def identify_verified(self, authorization: str) -> Identity:
        """Return the result of `identify`, because no password can be verified."""
        return self.identify(authorization)


def owner_by_rules(rules: Callable[[], AccessRules | None]) -> Owner:
    """Return an `Owner` that grants a user the rights of *rules*; without rules, all rights.

    A token without a user has the rights of an anonymous client.
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
