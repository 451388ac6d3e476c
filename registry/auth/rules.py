"""Evaluate access rules, which state which user may perform which action in which repository.

An access rule can permit actions, but cannot forbid them. An action that none of a user's rules
permits is forbidden, so the order of the rules has no effect, and an operator can understand each
rule alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository
from entrepot.runtime import docker_hub
from entrepot.runtime.access import ANONYMOUS, EVERY_USER, Action
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.hostnames import fold

PULL: Final[frozenset[Action]] = frozenset({"pull"})
ALL: Final[frozenset[Action]] = frozenset({"pull", "push", "delete"})

_CACHE_SIZE = 4096
"""A process caches the rights of at most this many users."""


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """An `AccessGrant` lists users, patterns of repositories, and the permitted actions.

    Each user may perform the actions in `allow` in each repository whose name matches a pattern. A
    user may be EVERY_USER, which means every user with a password, or ANONYMOUS, which means all
    clients, with pull only. The patterns match names as they appear in the catalog, where the name
    of a proxied repository begins with the host of its upstream.
    """

    users: tuple[str, ...]
    repositories: tuple[str, ...]
    allow: frozenset[Action]


class AccessRights:
    """An `AccessRights` holds a user's rights; `actions` are permitted in at least one repository.

    `name` is the rights class, which users with equal rights share in every process, even after a
    restart. Anonymous clients never share a rights class with users. `pulled_patterns` are the
    sorted patterns of the repositories that the user may pull.
    """

    def __init__(self, allowed: Iterable[tuple[Action, str]], *, is_user: bool) -> None:
        pairs = sorted(set(allowed))
        patterns: dict[Action, list[str]] = {}
        for action, pattern in pairs:
            patterns.setdefault(action, []).append(pattern)
        self.actions = frozenset(patterns)
        self.name = _class(pairs, is_user=is_user)
        self.pulled_patterns = tuple(patterns.get("pull", ()))
        self._everywhere = frozenset(each for each, found in patterns.items() if "**" in found)
        self._where = MappingProxyType({each: Globs(found) for each, found in patterns.items()})

    def allow(self, action: Action, repository: Repository | None) -> bool:
        """Return whether *action* is permitted in *repository*; None means in any repository."""
        if action not in self.actions:
            return False
        return repository is None or repository in self._where[action]

    def everywhere(self, action: Action) -> bool:
        """Return whether *action* is permitted in every repository."""
        return action in self._everywhere


class AccessRules:
    """An `AccessRules` holds all access rules in force.

    Raises: InvalidRepository for an invalid pattern.
    """

    def __init__(self, rules: Iterable[AccessGrant]) -> None:
        self._rules = [
            (each.users, each.allow, tuple(map(disk_pattern, each.repositories))) for each in rules
        ]
        Globs(pattern for _, _, patterns in self._rules for pattern in patterns)
        self._cache: BoundedDict[str | None, AccessRights] = BoundedDict(_CACHE_SIZE)

    def of(self, user: str | None) -> AccessRights:
        """Return the rights of a user; None means anonymous clients."""
        rights = self._cache.get(user)
        if rights is None:
            rights = self._computed(user)
            self._cache.keep(user, rights)
        return rights

    def _computed(self, user: str | None) -> AccessRights:
        subjects = set[str]() if user is None else {user, EVERY_USER} - {ANONYMOUS}
        allowed: set[tuple[Action, str]] = set()
        for users, actions, patterns in self._rules:
            own = actions if subjects.intersection(users) else frozenset[Action]()
            common = PULL & actions if ANONYMOUS in users else frozenset[Action]()
            allowed |= {(action, pattern) for action in own | common for pattern in patterns}
        return AccessRights(allowed, is_user=user is not None)


def everywhere(actions: frozenset[Action], *, is_user: bool) -> AccessRights:
    """Return rights that permit *actions* in every repository."""
    return AccessRights([(action, "**") for action in actions], is_user=is_user)


def disk_pattern(pattern: str) -> str:
    """Return a repository pattern in the spelling that repository names have on disk.

    On disk, `_` and not a colon precedes the port of a host, and Docker Hub's short names begin
    with `library/`.
    """
    head, slash, rest = pattern.partition("/")
    host = fold(head)
    if slash and rest != "**":
        rest = docker_hub.full_path(host, rest)
    return f"{host}{slash}{rest.lower()}"


def _class(pairs: list[tuple[Action, str]], *, is_user: bool) -> str:
    text = "\n".join(f"{action} {pattern}" for action, pattern in pairs)
    return f"{'u' if is_user else 'n'}{hashlib.sha256(text.encode()).hexdigest()[:24]}"
