"""Implement docker distribution's `auth.silly`, a demonstration that accepts every login."""

from __future__ import annotations

from entrepot.registry.auth.identity import Identity
from entrepot.registry.auth.rules import ALL
from entrepot.registry.challenges import SillyChallenge


class SillyAuthenticator:
    """A `SillyAuthenticator` treats each client with an Authorization header as user `silly`."""

    def __init__(self, challenge: SillyChallenge) -> None:
        self._anonymous = Identity(None, challenge=challenge)
        self._silly = Identity("silly", ALL, challenge, is_open=True)

    def identify(self, authorization: str | None) -> Identity:
        """Return the user `silly`; without a header, an anonymous client without rights."""
        return self._silly if authorization else self._anonymous
