"""What the worker and HAProxy before it tell each other, in headers that no client sees or sends.

HAProxy answers from its memory what a worker allowed it to keep, to whom a worker gave the same
rights, and remembers whose credential was found right (docs/internals/edge-cache.md). Everything
that a worker tells it is dated by the generation in which the worker began to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from entrepot.edge.cache_fill import CacheFill
from entrepot.registry.auth.identity import Asker, Identity

GENERATION = "X-Entrepot-Generation"
KEEP = "X-Entrepot-Keep"
RIGHTS = "X-Entrepot-Rights"
MISTAKEN = "X-Entrepot-Mistaken"
VERIFIED = "X-Entrepot-Verified"
SOURCE = "X-Entrepot-Source"
GUESSES = "X-Entrepot-Guesses"

LARGEST_KEPT = 64 * 1024
"""Bytes of an answer that HAProxy takes into its memory (haproxy.cfg, max-object-size)."""

_LONGEST_KEPT = 60.0  # s
_LEAST_FILLED = 2.0  # s
_A_USER, _NOBODY = 1, 2


@dataclass(frozen=True, slots=True)
class EdgeHeaders:
    """HAProxy before this worker; *generation* None: there is none, so nobody is believed.

    *filler* None: what is only asked about with HEAD stays a worker's to answer.
    """

    epoch: Callable[[], str] | None = None
    cache_fill: CacheFill | None = None

    def begin(self, req: falcon.Request, resp: falcon.Response) -> bool:
        """Date an answer before anything is looked at; tell whether the credential is known."""
        if self.epoch is None:
            return False
        now = self.epoch()
        resp.set_header(GENERATION, now)
        return req.get_header(VERIFIED) == now

    def asker(self, req: falcon.Request) -> Asker:
        """Return who brings a credential, as HAProxy says; without it, nobody in particular."""
        if self.epoch is None:
            return Asker()
        return Asker(req.get_header(SOURCE) or "", req.get_header(GUESSES) is not None)

    def remember(self, resp: falcon.Response, identity: Identity) -> None:
        """Have a credential remembered that was just found right."""
        if self.epoch is not None:
            resp.set_header(RIGHTS, _numbers(identity))

    def count(self, resp: falcon.Response) -> None:
        """Have a wrong password counted, also where the answer needs none."""
        if self.epoch is not None:
            resp.set_header(MISTAKEN, "1")

    def keep(self, req: falcon.Request, resp: falcon.Response, holds: Callable[[], float]) -> None:
        """Allow an answer to be kept that *holds* so many s: whole ones, and a minute at most.

        A HEAD can't be kept: the GET that could is made, if this was asked about before.
        """
        if self.epoch is None:
            return
        if req.method == "HEAD":
            self._follow(req, holds)
        elif (seconds := int(min(holds(), _LONGEST_KEPT))) > 0:
            resp.set_header(KEEP, str(seconds))

    def _follow(self, req: falcon.Request, holds: Callable[[], float]) -> None:
        authorization = req.get_header("Authorization")
        if self.cache_fill is None or (authorization and not req.get_header(VERIFIED)):
            return  # nothing is kept for who is not known yet
        asked = (req.env["RAW_URI"], authorization)
        if self.cache_fill.is_repeated(asked) and holds() >= _LEAST_FILLED:
            self.cache_fill.fill(asked)


def _numbers(identity: Identity) -> str:
    """Write a rights class as HAProxy can store it: three numbers of 32 bits, and one for the kind.

    The class is a letter and 24 digits, to the base of 16 (registry/auth/rules.py).
    """
    digits = identity.rights_class[1:]
    parts = [int(digits[at : at + 8], 16) for at in (0, 8, 16)]
    kind = _A_USER if identity.user is not None else _NOBODY
    return ".".join(map(str, (*parts, kind)))
