"""What the worker and HAProxy before it tell each other, in headers that no client sees or sends.

HAProxy answers from its memory what a worker allowed it to keep, to whom a worker gave the same
rights, and remembers whose credential was found right (docs/design.md, "Memory"). Everything that a
worker tells it is dated by the generation in which the worker began to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from registry.auth import Identity

GENERATION = "X-Entrepot-Generation"
KEEP = "X-Entrepot-Keep"
RIGHTS = "X-Entrepot-Rights"
VERIFIED = "X-Entrepot-Verified"

LARGEST_KEPT = 64 * 1024
"""Bytes of an answer that HAProxy takes into its memory (haproxy.cfg, max-object-size)."""

_LONGEST_KEPT = 60.0  # s
_A_USER, _NOBODY = 1, 2


@dataclass(frozen=True, slots=True)
class Front:
    """HAProxy before this worker; *generation* None: there is none, so nobody is believed."""

    generation: Callable[[], str] | None = None

    def begin(self, req: falcon.Request, resp: falcon.Response) -> bool:
        """Date an answer before anything is looked at; tell whether the credential is known."""
        if self.generation is None:
            return False
        now = self.generation()
        resp.set_header(GENERATION, now)
        return req.get_header(VERIFIED) == now

    def remember(self, resp: falcon.Response, identity: Identity) -> None:
        """Have a credential remembered that was just found right."""
        if self.generation is not None:
            resp.set_header(RIGHTS, _numbers(identity))

    def may_keep(self, req: falcon.Request) -> bool:
        """Whether there is any use in saying how long an answer to this may be kept."""
        return self.generation is not None and req.method == "GET"

    def keep(self, resp: falcon.Response, seconds: float) -> None:
        """Allow an answer to be kept: whole seconds, and a minute at most."""
        whole = int(min(seconds, _LONGEST_KEPT))
        if whole > 0:
            resp.set_header(KEEP, str(whole))


def _numbers(identity: Identity) -> str:
    """Write a rights class as HAProxy can store it: three numbers of 32 bits, and one for the kind.

    The class is a letter and 24 digits, to the base of 16 (registry/access.py).
    """
    digits = identity.rights_class[1:]
    parts = [int(digits[at : at + 8], 16) for at in (0, 8, 16)]
    kind = _A_USER if identity.user is not None else _NOBODY
    return ".".join(map(str, (*parts, kind)))
