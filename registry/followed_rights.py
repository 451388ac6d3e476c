"""Follow the access rules and users of the configuration file, and reload them after a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from entrepot import config
from entrepot.config.schema import Followed, Settings
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.runtime.reloading_file import ReloadingFile, Snapshot
from entrepot.runtime.run_names import RIGHTS


@dataclass(frozen=True, slots=True)
class Rights:
    """A `Rights` holds the configured access rules and users; each is None if not configured."""

    rules: AccessRules | None
    users: Mapping[str, bytes] | None


def rights_in_force(
    settings: Settings, invalidation: Invalidation
) -> Callable[[], Snapshot[Rights]]:
    """Return a function that returns the access rules and users currently in force."""
    at_start = _parsed(config.rights(settings))
    followed = settings.followed
    if followed.file is None:
        fixed = Snapshot(at_start, 0)
        return lambda: fixed
    reloading = ReloadingFile(
        followed.file,
        partial(_read_rights, followed=followed, otherwise=at_start),
        errors=(config.ConfigError,),
        last_good=settings.run / RIGHTS,
        validate=partial(_reject_removed_sections, followed.file),
    )
    invalidation.watch(reloading)
    return lambda: reloading.snapshot


def _read_rights(content: bytes, *, followed: Followed, otherwise: Rights) -> Rights:
    """Parse the access rules and users of the configuration file.

    Raises: ConfigError.
    """
    assert followed.file is not None  # noqa: S101 - called only if there is a file
    given = _parsed(config.read_rights(content, followed.file))
    rules = given.rules if followed.access else otherwise.rules
    return Rights(rules, given.users if followed.users else otherwise.users)


def _reject_removed_sections(file: Path, before: Rights, after: Rights) -> None:
    """Reject a file from which the rules or the users were removed: the file may be incomplete.

    Raises: ConfigError.
    """
    for name, had, has, instead in (
        ("access", before.rules, after.rules, "access: []"),
        ("auth.htpasswd.users", before.users, after.users, "users: {}"),
    ):
        if had is not None and has is None:
            raise config.ConfigError(
                [config.Problem(f"{file}: {name}", "removed", f"write {instead}, or restart")]
            )


def _parsed(given: config.FollowedRights) -> Rights:
    rules = [
        AccessGrant(each.user, each.repository, frozenset(each.allow))
        for each in given.access or ()
    ]
    hashes = {user: hashed.encode() for user, hashed in (given.users or {}).items()}
    return Rights(
        None if given.access is None else AccessRules(rules),
        None if given.users is None else hashes,
    )


def users_of(rights: Snapshot[Rights]) -> Snapshot[Mapping[str, bytes]]:
    """Return the users of the configuration file, with their password hashes."""
    return Snapshot(rights.value.users or {}, rights.generation)
