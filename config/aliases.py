"""Reads docker-cache-server's names as settings of ours: its users come without rewriting.

Each of its keys is taken by flag, by DCS_A_B for a.b, and in the file, with one warning.
docs/migration.md says what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import bcrypt

from config import access
from config.cache_server import ADDRESS, DIRECTORY, ENABLED, INTERVAL, MEANT, PORT, TTL, USERS
from config.errors import Problem, Unreadable
from config.given import Given, Reading
from config.htpasswd import is_bcrypt
from config.keys import Key
from config.readers import switch, text

_LISTEN: Final = ("http", "addr")
_ROOT: Final = ("storage", "filesystem", "rootdirectory")
_HTPASSWD: Final = ("auth", "htpasswd")
_OUR_USERS: Final = (*_HTPASSWD, "users")
_RENAMED: Final[Mapping[Key, Key]] = {
    DIRECTORY: _ROOT,
    TTL: ("cleaner", "ttl"),
    INTERVAL: ("cleaner", "runevery"),
}
# Its releases that know `http.addr` keep images in this folder below `storage.directory`.
_DATA: Final = "data"
_LAYOUT: Final = "docker/registry/v2"
# htpasswd(1) cuts here in silence, the library raises
_LONGEST_PASSWORD: Final = 72
_NAME: Final = "docker-cache-server's name"


def ours(given: Given) -> Given | None:
    """Return the same value for the setting of ours that one of its keys is another name of."""
    if given.key not in _RENAMED:
        return None
    value = _with_images(str(given.value)) if given.key == DIRECTORY else given.value
    return replace(given, key=_RENAMED[given.key], value=value)


def warnings(layers: Iterable[Reading]) -> list[Problem]:
    """Tell each of its keys that was said anywhere, once, and what to write instead.

    But for its users: what to write instead of these is known once they are read.
    """
    every = [each for layer in layers for each in layer.given]
    said = {each.key: each for each in every if each.key in MEANT and each.key != USERS}
    return [each.objection(_NAME, f"write {MEANT[key]}") for key, each in said.items()]


@dataclass(frozen=True, slots=True)
class Folded:
    """What was said, in settings of ours, and what there is to tell of that."""

    given: dict[Key, Given]
    problems: list[Problem]
    warnings: list[Problem]


def fold(given: Mapping[Key, Given], listen: str) -> Folded:
    """Make settings of ours of its keys that mean more, or less, than one; *listen* is ours."""
    folded = Folded(dict(given), [], [])
    _fold_address(folded, listen)
    _fold_retention(folded)
    _fold_users(folded)
    return folded


def _fold_address(folded: Folded, listen: str) -> None:
    """Put its address and port, or what is said of them, into one."""
    halves = [folded.given[key] for key in (ADDRESS, PORT) if key in folded.given]
    if not halves:
        return
    below = folded.given.get(_LISTEN)
    host, _, port = str(below.value if below else listen).rpartition(":")
    for each in halves:
        if each.key == PORT:
            port = str(each.value)
        else:
            host = _bracketed(str(each.value))
    folded.given[_LISTEN] = replace(halves[-1], key=_LISTEN, value=f"{host}:{port}")


def _fold_retention(folded: Folded) -> None:
    """Let what was pushed expire, and nothing else take it: it knows no largest size."""
    if TTL in folded.given:
        for key, value in ((("cleaner", "hosted"), "true"), (("cleaner", "maxsize"), "0")):
            folded.given.setdefault(key, replace(folded.given[TTL], key=key, value=value))


def _fold_users(folded: Folded) -> None:
    """Take its users, or none of them where `auth.enabled` is false."""
    enabled, users = folded.given.get(ENABLED), folded.given.get(USERS)
    try:
        is_enabled = switch(enabled.value) if enabled else True
    except Unreadable as error:
        folded.problems.extend([enabled.problem(error.message, error.remedy)] if enabled else [])
        return
    ours_said = any(key[:2] == _HTPASSWD for key in folded.given)
    said = enabled or users
    if said and is_enabled and not ours_said and not (users and users.value):
        folded.problems.append(said.objection("and no user", "set auth.htpasswd.users"))
    elif enabled and not is_enabled and ours_said:
        folded.problems.append(enabled.objection("false, and auth.htpasswd is set", "keep one"))
    elif users and users.value and is_enabled:
        _take_users(folded, users)


def _take_users(folded: Folded, users: Given) -> None:
    try:
        hashes, told = read_users(users.value)
    except Unreadable as error:
        folded.problems.append(users.problem(error.message, error.remedy, is_secret=True))
        return
    folded.warnings.append(users.objection(told, f"write auth.htpasswd.users: {_written(hashes)}"))
    folded.given.setdefault(_OUR_USERS, replace(users, key=_OUR_USERS, value=hashes))


def read_users(given: object) -> tuple[dict[str, str], str]:
    """Read its list of users, or a map as ours; hash what is plain, and say what it was.

    Raises: Unreadable.
    """
    found = access.from_yaml(given)
    if not isinstance(found, list):
        return access.users(found) or {}, _NAME
    plain = dict(_logins(found))
    hashes = {name: word if is_bcrypt(word) else _hashed(word) for name, word in plain.items()}
    told = _NAME if hashes == plain else f"{_NAME}, and passwords in plain text"
    return access.users(hashes) or {}, told


def _logins(found: list[object]) -> Iterator[tuple[str, str]]:
    for each in found:
        if not isinstance(each, Mapping) or set(each) != {"username", "password"}:
            raise Unreadable("not a list of users", "write username and password of each")
        yield text(each["username"]), text(each["password"])


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:_LONGEST_PASSWORD], bcrypt.gensalt(10)).decode()


def _written(hashes: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {hashed}" for name, hashed in hashes.items()) + "}"


def _with_images(folder: str) -> str:
    """Return the folder below which it keeps images, which depends on its release."""
    newer = Path(folder) / _DATA
    return str(newer) if (newer / _LAYOUT).is_dir() else folder


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
