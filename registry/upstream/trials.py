"""Remember which credentials an upstream accepted and refused.

A server may lock an account after a few wrong passwords. Without this memory, every pull would send
a wrong password again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from entrepot.registry.upstream.credentials import Credential
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.clock import elapsed

AGAIN_S: Final = 600.0
"""A refused credential is not sent again for this many seconds; a changed credential is sent at
once."""
UNPROVEN_S: Final = 60.0
"""If a check gave no result, a credential is used unchecked for this many seconds."""
_MOST: Final = 256


class CredentialTrials:
    """A `CredentialTrials` records one upstream's responses to credentials; any thread may use it.

    *clock* returns seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._accepted: BoundedDict[Credential, bool] = BoundedDict(_MOST)
        self._refused: BoundedDict[Credential, float] = BoundedDict(_MOST)
        self._unproven: BoundedDict[Credential, float] = BoundedDict(_MOST)

    def may_be_sent(self, credential: Credential) -> bool:
        """Return whether *credential* may be sent: it was accepted, or cannot be checked now."""
        if self._accepted.get(credential, False):
            return True
        return self._clock() < self._unproven.get(credential, 0.0)

    def is_refused(self, credential: Credential) -> bool:
        """Return whether *credential* must not be sent now."""
        return self._clock() < self._refused.get(credential, 0.0)

    def accept(self, credential: Credential) -> None:
        """Record that the upstream accepted *credential*."""
        self._refused.pop(credential, None)
        self._accepted.keep(credential, True)

    def refuse(self, credential: Credential) -> None:
        """Record that the upstream refused *credential* at a URL that accepts any valid one."""
        self._accepted.pop(credential, None)
        self._refused.keep(credential, self._clock() + AGAIN_S)

    def skip(self, credential: Credential) -> None:
        """Record that a check of *credential* gave no result, for example for lack of a response.

        Without this record, each request would wait for another check without a result.
        """
        self._unproven.keep(credential, self._clock() + UNPROVEN_S)

    def doubt(self, credential: Credential) -> None:
        """Let *credential* be checked again, because a request with it was refused."""
        self._accepted.pop(credential, None)
