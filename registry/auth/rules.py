"""Which user may do what in which repository.

A rule only ever allows: what none of those that concern a user allows, he may not do. So their
order means nothing, and whoever reads one of them knows something that holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository
from entrepot.runtime.hostnames import fold

Action = Literal["pull", "push", "delete"]

EVERY_USER: Final = "*"
ANYBODY: Final = "anonymous"

PULL: Final[frozenset[Action]] = frozenset({"pull"})
ALL: Final[frozenset[Action]] = frozenset({"pull", "push", "delete"})

# Docker Hub's official images live in `library`, which their names leave out.
_DOCKER_HUB = "docker.io"
_MOST = 4096
"""Users whose rights are remembered."""


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """Allows `users` to do what is in `allow` in the repositories that `repositories` mean.

    A user may be EVERY_USER, whoever has a password, or ANYBODY, who may pull at most. The
    repositories are patterns of names as they stand in the catalog, an upstream's host in front.
    """

    users: tuple[str, ...]
    repositories: tuple[str, ...]
    allow: frozenset[Action]


class AccessRights:
    """What somebody may do, and where: `actions` are those that he may do anywhere at all.

    `name` is the rights class: equal for two who may do the same, in every process and after
    every start; that of a stranger is no user's.
    """

    def __init__(self, allowed: Iterable[tuple[Action, str]], *, is_user: bool) -> None:
        pairs = sorted(set(allowed))
        patterns: dict[Action, list[str]] = {}
        for action, pattern in pairs:
            patterns.setdefault(action, []).append(pattern)
        self.actions = frozenset(patterns)
        self.name = _class(pairs, is_user=is_user)
        self._everywhere = frozenset(each for each, found in patterns.items() if "**" in found)
        self._where = MappingProxyType({each: Globs(found) for each, found in patterns.items()})

    def allow(self, action: Action, repository: Repository | None) -> bool:
        """Tell whether that may be done there; None: in any place at all."""
        if action not in self.actions:
            return False
        return repository is None or repository in self._where[action]

    def everywhere(self, action: Action) -> bool:
        """Tell whether that may be done in every repository."""
        return action in self._everywhere


class AccessRules:
    """All rules that are in force at a time. Raises: InvalidRepository, for a pattern."""

    def __init__(self, rules: Iterable[AccessGrant]) -> None:
        self._rules = [
            (each.users, each.allow, tuple(map(named, each.repositories))) for each in rules
        ]
        Globs(pattern for _, _, patterns in self._rules for pattern in patterns)
        self._known: dict[str | None, AccessRights] = {}

    def of(self, user: str | None) -> AccessRights:
        """Return a user's rights; None: a stranger's."""
        rights = self._known.get(user)
        if rights is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            rights = self._known[user] = self._made(user)
        return rights

    def _made(self, user: str | None) -> AccessRights:
        mine = set[str]() if user is None else {user, EVERY_USER} - {ANYBODY}
        allowed: set[tuple[Action, str]] = set()
        for users, actions, patterns in self._rules:
            own = actions if mine.intersection(users) else frozenset[Action]()
            common = PULL & actions if ANYBODY in users else frozenset[Action]()
            allowed |= {(action, pattern) for action in own | common for pattern in patterns}
        return AccessRights(allowed, is_user=user is not None)


def everywhere(actions: frozenset[Action], *, is_user: bool) -> AccessRights:
    """Return the right to do these in every repository."""
    return AccessRights([(action, "**") for action in actions], is_user=is_user)


def named(pattern: str) -> str:
    """Write a pattern as names are on disk: a port behind `_`, Docker Hub's short names in full."""
    head, slash, rest = pattern.partition("/")
    host = fold(head)
    if host == _DOCKER_HUB and slash and "/" not in rest and rest != "**":
        rest = f"library/{rest}"
    return f"{host}{slash}{rest.lower()}"


def _class(pairs: list[tuple[Action, str]], *, is_user: bool) -> str:
    text = "\n".join(f"{action} {pattern}" for action, pattern in pairs)
    return f"{'u' if is_user else 'n'}{hashlib.sha256(text.encode()).hexdigest()[:24]}"
