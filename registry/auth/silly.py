"""docker distribution's `auth.silly`, for demonstrations: it accepts every Authorization header."""

from __future__ import annotations

from entrepot.registry.auth.identity import Identity
from entrepot.registry.auth.rules import ALL
from entrepot.registry.challenges import SillyChallenge


class SillyAuthenticator:
    """Accepts every client that sends an Authorization header as the user `silly`."""

    def __init__(self, challenge: SillyChallenge) -> None:
        self._anonymous = Identity(None, challenge=challenge)
        self._silly = Identity("silly", ALL, challenge, is_open=True)

    def identify(self, authorization: str | None) -> Identity:
        """Return the user `silly`, or an anonymous client without rights."""
        return self._silly if authorization else self._anonymous
