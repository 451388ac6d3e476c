"""What of the configuration file is followed while we run: rights and users, nothing else.

Both are taken away in a hurry, and a restart ends every pull.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config import access, aliases, cache_server
from config.access import AccessRule
from config.document import read_content
from config.errors import ConfigError, Unreadable
from config.given import Given
from config.keys import Key
from config.schema import Followed, Settings

_ACCESS: Final = ("access",)
_USERS: Final = ("auth", "htpasswd", "users")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a configuration says of rights and of users and their hashes; None: nothing."""

    access: tuple[AccessRule, ...] | None
    users: Mapping[str, str] | None


def followed(settings: Settings, given: Mapping[Key, Given], file: Path | None) -> Followed:
    """Tell what of *file* is to be followed: not what a flag or a variable says instead.

    Whether there are passwords at all is decided at the start.
    """
    if file is None or settings.auth.htpasswd is None:
        return Followed()
    access_said, users_said = given.get(_ACCESS), given.get(_USERS)
    return Followed(
        file=file.absolute(),
        access=access_said is None or _is_of(file, access_said),
        users=users_said is None or _is_of(file, users_said),
    )


def rights(settings: Settings) -> Rights:
    """Return what was said at the start."""
    htpasswd = settings.auth.htpasswd
    return Rights(settings.access, htpasswd.users if htpasswd else None)


def read_rights(content: bytes, file: Path) -> Rights:
    """Read what the configuration file says now. Raises: ConfigError."""
    reading = read_content(content, str(file))
    if reading.problems:
        raise ConfigError(reading.problems)
    said = {each.key: each for each in reading.given}
    try:
        return Rights(_access(said), _users(said))
    except _Refused as refused:
        given, error = refused.given, refused.error
        problem = given.problem(error.message, error.remedy, is_secret=given.key != _ACCESS)
        raise ConfigError([problem]) from None


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """A value that can't be read."""

    def __init__(self, given: Given, error: Unreadable) -> None:
        super().__init__()
        self.given = given
        self.error = error


def _access(said: Mapping[Key, Given]) -> tuple[AccessRule, ...] | None:
    given = said.get(_ACCESS)
    try:
        return access.rules(given.value) if given else None
    except Unreadable as error:
        assert given is not None  # noqa: S101 - it was read
        raise _Refused(given, error) from error


def _users(said: Mapping[Key, Given]) -> Mapping[str, str] | None:
    given = said.get(_USERS) or said.get(cache_server.USERS)
    if given is None:
        return None
    try:
        return aliases.read_users(given.value)[0]
    except Unreadable as error:
        raise _Refused(given, error) from error


def _is_of(file: Path, given: Given) -> bool:
    return given.origin.startswith(f"{file}:")
