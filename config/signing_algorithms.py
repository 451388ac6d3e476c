"""Read `auth.token.signingalgorithms`, with the names of docker distribution 3."""

from __future__ import annotations

import difflib
from typing import Final

from entrepot.config.errors import Unreadable
from entrepot.config.readers import words

_SIZES: Final = (256, 384, 512)
ASYMMETRIC: Final = ("EdDSA", *(f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in _SIZES))
"""The signature algorithms that the appliance accepts.

With these algorithms only the token server has the private key, so no other program can issue
tokens.
"""
SYMMETRIC: Final = tuple(f"HS{size}" for size in _SIZES)
"""The appliance never accepts these algorithms of docker distribution. With these algorithms,
the key that verifies a token also signs tokens, so every program that verifies tokens could
issue them."""


def algorithms(given: object) -> tuple[str, ...]:
    """Read a list of signature algorithms; an empty list means all accepted algorithms.

    Raises: Unreadable.
    """
    named = words(given)
    for each in named:
        if each not in (*ASYMMETRIC, *SYMMETRIC):
            near = difflib.get_close_matches(each.upper(), ASYMMETRIC, 1) or ASYMMETRIC[1:2]
            raise Unreadable(f"no accepted algorithm: {each[:32]!r}", f"try [{near[0]}]")
    if named and not accepted(named):
        raise Unreadable(
            "HMAC is never accepted: a program that verifies such tokens can also issue them",
            "try [RS256]",
        )
    return named


def accepted(named: tuple[str, ...]) -> frozenset[str]:
    """Return the algorithms in *named* that use no shared secret; for an empty list, return all."""
    return frozenset(named or ASYMMETRIC) - frozenset(SYMMETRIC)
