"""Remember which credentials an upstream accepted and refused.

A server may lock an account after a few wrong passwords, and every pull would send one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from entrepot.registry.upstream.credentials import Credential
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.clock import elapsed

AGAIN_S: Final = 600.0
"""A refused credential is not sent again for this many s, unless it changes."""
_MOST: Final = 256


class CredentialTrials:
    """A `CredentialTrials` has the results of one upstream; any thread may use it.

    *clock* returns s and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._accepted: BoundedDict[Credential, bool] = BoundedDict(_MOST)
        self._refused: BoundedDict[Credential, float] = BoundedDict(_MOST)

    def is_accepted(self, credential: Credential) -> bool:
        """Return whether the last result of *credential* was an acceptance."""
        return self._accepted.get(credential, False)

    def is_refused(self, credential: Credential) -> bool:
        """Return whether *credential* must not be sent now."""
        return self._clock() < self._refused.get(credential, 0.0)

    def accept(self, credential: Credential) -> None:
        """Record that the upstream accepted *credential*."""
        self._refused.pop(credential, None)
        self._accepted.keep(credential, True)

    def refuse(self, credential: Credential) -> None:
        """Record that the upstream refused *credential* where it accepts every valid one."""
        self._accepted.pop(credential, None)
        self._refused.keep(credential, self._clock() + AGAIN_S)

    def doubt(self, credential: Credential) -> None:
        """Record that one request with *credential* was refused, perhaps for another reason."""
        self._accepted.pop(credential, None)
