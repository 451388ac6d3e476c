"""Translate the keys of docker-cache-server, so that the appliance accepts its configurations.

A key of docker-cache-server may be a flag, a variable (DCS_A_B for a.b), or a key of the file. Each
key causes one warning. The page docs/migration.md lists the differences
between the two programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import bcrypt

from entrepot.config import access
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.htpasswd import is_bcrypt
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue, SourceValues
from entrepot.config.readers import switch, text
from entrepot.config.sources.cache_server import (
    ADDRESS,
    DIRECTORY,
    ENABLED,
    INTERVAL,
    MEANT,
    PORT,
    TTL,
    USERS,
)
from entrepot.config.yaml_text import from_yaml

_LISTEN: Final = ("http", "addr")
_ROOT: Final = ("storage", "filesystem", "rootdirectory")
_HTPASSWD: Final = ("auth", "htpasswd")
_OUR_USERS: Final = (*_HTPASSWD, "users")
_RENAMED: Final[Mapping[Key, Key]] = {
    DIRECTORY: _ROOT,
    TTL: ("cleaner", "ttl"),
    INTERVAL: ("cleaner", "runevery"),
}
# Newer releases of docker-cache-server, which have the key `http.addr`, store images in this
# subfolder of `storage.directory`.
_DATA: Final = "data"
_LAYOUT: Final = "docker/registry/v2"
# A password may have at most this many bytes. The program htpasswd silently truncates a longer
# password; the library bcrypt would raise an error.
_LONGEST_PASSWORD: Final = 72
_NAME: Final = "docker-cache-server's name"


def ours(given: RawValue) -> RawValue | None:
    """Return *given* with the appliance's key in place of docker-cache-server's key.

    Return None if no single key of the appliance has the same meaning.
    """
    if given.key not in _RENAMED:
        return None
    value = _with_images(str(given.value)) if given.key == DIRECTORY else given.value
    return replace(given, key=_RENAMED[given.key], value=value)


def warnings(layers: Iterable[SourceValues]) -> list[Problem]:
    """Return a warning for each key of docker-cache-server in any source.

    The warning names the new key.

    The key of the users is omitted, because `fold` returns a warning for it that names the users.
    """
    every = [each for layer in layers for each in layer.given]
    used = {each.key: each for each in every if each.key in MEANT and each.key != USERS}
    return [each.objection(_NAME, f"write {MEANT[key]}") for key, each in used.items()]


@dataclass(frozen=True, slots=True)
class AliasedValues:
    """An `AliasedValues` holds problems, warnings, and values with the appliance's keys."""

    given: dict[Key, RawValue]
    problems: list[Problem]
    warnings: list[Problem]


def fold(given: Mapping[Key, RawValue], listen: str) -> AliasedValues:
    """Translate the keys of docker-cache-server that correspond to no single key of the appliance.

    *listen* is the default of `http.addr`.
    """
    folded = AliasedValues(dict(given), [], [])
    _fold_address(folded, listen)
    _fold_retention(folded)
    _fold_users(folded)
    return folded


def _fold_address(folded: AliasedValues, listen: str) -> None:
    """Combine `server.address` and `server.port` into `http.addr`; either key may be missing."""
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


def _fold_retention(folded: AliasedValues) -> None:
    """Set `cleaner.hosted` and `cleaner.maxsize` so that `cache.ttl` has its original meaning.

    In docker-cache-server, pushed content expires too, and there is no maximum size.
    """
    if TTL in folded.given:
        for key, value in ((("cleaner", "hosted"), "true"), (("cleaner", "maxsize"), "0")):
            folded.given.setdefault(key, replace(folded.given[TTL], key=key, value=value))


def _fold_users(folded: AliasedValues) -> None:
    """Translate the users, unless `auth.enabled` is false."""
    enabled, users = folded.given.get(ENABLED), folded.given.get(USERS)
    try:
        is_enabled = switch(enabled.value) if enabled else True
    except Unreadable as error:
        folded.problems.extend([enabled.problem(error.message, error.remedy)] if enabled else [])
        return
    is_htpasswd_set = any(key[:2] == _HTPASSWD for key in folded.given)
    present = enabled or users
    if present and is_enabled and not is_htpasswd_set and not (users and users.value):
        folded.problems.append(
            present.objection("no users are configured", "set auth.htpasswd.users")
        )
    elif enabled and not is_enabled and is_htpasswd_set:
        folded.problems.append(
            enabled.objection("the key is false, but auth.htpasswd is set", "keep one")
        )
    elif users and users.value and is_enabled:
        _take_users(folded, users)


def _take_users(folded: AliasedValues, users: RawValue) -> None:
    try:
        hashes, message = read_users(users.value)
    except Unreadable as error:
        folded.problems.append(users.problem(error.message, error.remedy, is_secret=True))
        return
    names = ", ".join(f"{name}: HASH" for name in hashes)
    remedy = f"write auth.htpasswd.users: {{{names}}} with each HASH that htpasswd -nB NAME prints"
    folded.warnings.append(users.objection(message, remedy))
    folded.given.setdefault(_OUR_USERS, replace(users, key=_OUR_USERS, value=hashes))


def read_users(given: object) -> tuple[dict[str, str], str]:
    """Read docker-cache-server's list of users, or a map in the form of `auth.htpasswd.users`.

    Return a map from users to bcrypt hashes, and the text of the warning about the key. Plain
    passwords are hashed. Raises: Unreadable.
    """
    found = from_yaml(given, "try [{username: ann, password: secret}]")
    if not isinstance(found, list):
        return access.users(found) or {}, _NAME
    plain = dict(_logins(found))
    hashes = {name: word if is_bcrypt(word) else _hashed(word) for name, word in plain.items()}
    message = _NAME if hashes == plain else f"{_NAME}, and passwords in plain text"
    return access.users(hashes) or {}, message


def _logins(found: list[object]) -> Iterator[tuple[str, str]]:
    for each in found:
        if not isinstance(each, Mapping) or set(each) != {"username", "password"}:
            raise Unreadable("not a list of users", "write username and password of each")
        yield text(each["username"]), text(each["password"])


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:_LONGEST_PASSWORD], bcrypt.gensalt(10)).decode()


def _with_images(folder: str) -> str:
    """Return the folder with the images, which depends on the release of docker-cache-server."""
    newer = Path(folder) / _DATA
    return str(newer) if (newer / _LAYOUT).is_dir() else folder


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
