"""Read the parts of the configuration file whose changes take effect without a restart.

These parts are the access rules and the users. An operator must be able to revoke access at once,
and a restart would interrupt every pull.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrepot.config import access
from entrepot.config.access import AccessRule
from entrepot.config.errors import ConfigError, Unreadable
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Followed, Settings
from entrepot.config.sources import aliases, cache_server
from entrepot.config.sources.yaml_file import read_content

_ACCESS: Final = ("access",)
_USERS: Final = ("auth", "htpasswd", "users")


@dataclass(frozen=True, slots=True)
class FollowedRights:
    """A `FollowedRights` holds the access rules, and a map of the users to their bcrypt hashes.

    A field is None if the configuration does not set it.
    """

    access: tuple[AccessRule, ...] | None
    users: Mapping[str, str] | None


def followed(settings: Settings, given: Mapping[Key, RawValue], file: Path | None) -> Followed:
    """Return which parts of *file* are reread: those that no flag or variable overrides.

    No part is reread if neither passwords nor tokens were configured at the start.
    """
    if file is None or not settings.auth.protects:
        return Followed()
    access_given, users_given = given.get(_ACCESS), given.get(_USERS)
    return Followed(
        file=file.absolute(),
        access=access_given is None or _is_of(file, access_given),
        users=users_given is None or _is_of(file, users_given),
    )


def rights(settings: Settings) -> FollowedRights:
    """Return the access rules and users of the settings, which were read at the start."""
    htpasswd = settings.auth.htpasswd
    return FollowedRights(settings.access, htpasswd.users if htpasswd else None)


def read_rights(content: bytes, file: Path) -> FollowedRights:
    """Read the access rules and users in *content*, the content of *file*.

    Raises: ConfigError.
    """
    reading = read_content(content, str(file))
    if reading.problems:
        raise ConfigError(reading.problems)
    values = {each.key: each for each in reading.given}
    try:
        return FollowedRights(_access(values), _users(values))
    except _Refused as refused:
        given, error = refused.given, refused.error
        problem = given.problem(error.message, error.remedy, is_secret=given.key != _ACCESS)
        raise ConfigError([problem]) from None


class _Refused(Exception):  # noqa: N818 - caught in this module
    """The access rules or the users in the configuration file are invalid."""

    def __init__(self, given: RawValue, error: Unreadable) -> None:
        super().__init__()
        self.given = given
        self.error = error


def _access(values: Mapping[Key, RawValue]) -> tuple[AccessRule, ...] | None:
    given = values.get(_ACCESS)
    try:
        return access.rules(given.value) if given else None
    except Unreadable as error:
        assert given is not None  # noqa: S101 - only a given value is parsed
        raise _Refused(given, error) from error


def _users(values: Mapping[Key, RawValue]) -> Mapping[str, str] | None:
    given = values.get(_USERS) or values.get(cache_server.USERS)
    if given is None:
        return None
    try:
        return aliases.read_users(given.value)[0]
    except Unreadable as error:
        raise _Refused(given, error) from error


def _is_of(file: Path, given: RawValue) -> bool:
    return given.origin.startswith(f"{file}:")
