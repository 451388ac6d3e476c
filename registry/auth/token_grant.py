"""A token permits the access that its issuer granted, until it expires."""

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
"""An `Access` has the granted actions by type and name of the resource."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A `Claims` has the claims of a verified token.

    `expires` is in s, UTC epoch; the token is valid before it.

    `subject` is the user; empty for an anonymous client. `password` is the fingerprint of the
    user's password at the time of issue; only this appliance's own tokens have one.
    """

    subject: str
    expires: int
    access: Access = field(default_factory=dict)
    password: str = ""

    def covers(self, scope: Scope) -> bool:
        """Return whether the token grants every action of *scope*.

        The names are compared as they are: a `*` in a name matches nothing else, as in docker
        distribution.
        """
        granted = self.access.get((scope.kind, scope.name), frozenset())
        return _EVERY_ACTION in granted or granted.issuperset(scope.actions)

    def pulled_names(self) -> list[str]:
        """Return the repositories that the token permits to pull from, sorted."""
        return sorted(
            name
            for (kind, name), actions in self.access.items()
            if kind == REPOSITORY and actions & _PULLING
        )


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """The access of the client's token; it limits what the access rules permit.

    `challenge` is for a request that needs more. `pulled` has the names of `Claims.pulled_names`.
    """

    claims: Claims
    challenge: BearerChallenge
    pulled: tuple[str, ...]

    def require(self, scopes: Iterable[Scope]) -> None:
        """Do nothing if the token covers all *scopes*. Raises: Unauthenticated, as distribution."""
        if not all(map(self.claims.covers, scopes)):
            raise Unauthenticated(
                self.challenge.failed("insufficient_scope"), "the token does not permit this"
            )

    def may_pull(self, name: str) -> bool:
        """Return whether the token permits to pull from the repository *name*."""
        return self.claims.covers(Scope(REPOSITORY, name, ("pull",)))
