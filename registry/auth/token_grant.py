"""Compare the access that a token grants with the scopes that a request needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from entrepot.registry.challenges import BearerChallenge, Scope
from entrepot.registry.errors import Unauthenticated

REPOSITORY: Final = "repository"
_EVERY_ACTION: Final = "*"
_PULLING: Final = frozenset({"pull", _EVERY_ACTION})

Access = Mapping[tuple[str, str], frozenset[str]]
"""An `Access` maps the type and name of a resource to the granted actions."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A `Claims` holds the claims of a verified token.

    The token is valid before `expires`, in seconds since the UTC epoch.

    `subject` is the token's user; it is empty for an anonymous client. `password` is the
    fingerprint of the user's password when the token was issued; only this appliance's own tokens
    have a fingerprint.
    """

    subject: str
    expires: int
    access: Access = field(default_factory=dict)
    password: str = ""

    def covers(self, scope: Scope) -> bool:
        """Return whether the token grants every action of *scope*.

        Names are compared literally, so a `*` in a name in a token matches only `*`, as in docker
        distribution.
        """
        granted = self.access.get((scope.kind, scope.name), frozenset())
        return _EVERY_ACTION in granted or granted.issuperset(scope.actions)

    def pulled_names(self) -> list[str]:
        """Return the sorted names of the repositories from which the token permits pulls."""
        return sorted(
            name
            for (kind, name), actions in self.access.items()
            if kind == REPOSITORY and actions & _PULLING
        )


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """A `TokenGrant` is the access that a client's token grants; the access rules still apply.

    `challenge` is sent for a request that needs more access than the token grants. `pulled` holds
    the repositories that `Claims.pulled_names` returns.
    """

    claims: Claims
    challenge: BearerChallenge
    pulled: tuple[str, ...]

    def require(self, scopes: Iterable[Scope]) -> None:
        """Raise an error if the token does not cover all *scopes*.

        Raises: Unauthenticated with the error `insufficient_scope`, as docker distribution does.
        """
        if not all(map(self.claims.covers, scopes)):
            raise Unauthenticated(
                self.challenge.failed("insufficient_scope"),
                "the token does not grant the access that the request needs",
            )

    def may_pull(self, name: str) -> bool:
        """Return whether the token permits pulls from the repository *name*."""
        return self.claims.covers(Scope(REPOSITORY, name, ("pull",)))
