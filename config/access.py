"""Read the access rules of `access:` and the users of `auth.htpasswd.users`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from entrepot.config.errors import Unreadable
from entrepot.config.htpasswd import is_bcrypt
from entrepot.config.readers import suggestion, text, words
from entrepot.config.yaml_text import from_yaml
from entrepot.runtime.access import ANONYMOUS, EVERY_USER, Action

_ACTIONS: Final = get_args(Action)
_KEYS: Final = ("user", "repository", "allow")
# This expression describes one part of a pattern; slashes separate the parts. The module
# datastore/globs.py matches repository names against these patterns.
_PART = r"(?:\*\*|(?:[a-z0-9._-]|\*(?!\*))+)"
_PATTERN = re.compile(
    rf"(?!.{{240}}){_PART}(?::\d{{1,5}}(?=/))?(?:/{_PART})*", re.ASCII | re.IGNORECASE
)
_NO_NAME = re.compile(r"[:\x00-\x1f\x7f]")
_EXAMPLE: Final = "try [{user: ann, repository: team/**, allow: [pull, push]}]"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """An `AccessRule` allows the users in `user` the actions in `allow`.

    The rule applies to the repositories that match a pattern in `repository`.
    """

    user: tuple[str, ...]
    repository: tuple[str, ...]
    allow: tuple[Action, ...]

    def __str__(self) -> str:
        return " ".join(map(",".join, (self.user, self.allow, self.repository)))


def rules(given: object) -> tuple[AccessRule, ...] | None:
    """Read a list of access rules or the YAML text of such a list.

    Return None if there is no list. An empty list of rules denies everything.

    Raises: Unreadable, which lists every problem.
    """
    if given is None:
        return None
    found = from_yaml(given, _EXAMPLE)
    if not isinstance(found, list | tuple):
        raise Unreadable("not a list of rules", _EXAMPLE)
    problems = [
        f"rule {number}: {problem}"
        for number, each in enumerate(found, 1)
        for problem in _problems(each)
    ]
    if problems:
        raise Unreadable(", ".join(problems), _EXAMPLE)
    return tuple(each if isinstance(each, AccessRule) else _rule(each) for each in found)


def users(given: object) -> dict[str, str] | None:
    """Read a map of user names to bcrypt hashes, or the YAML text of such a map.

    Raises: Unreadable.
    """
    if given is None:
        return None
    found = from_yaml(given, _EXAMPLE)
    if not isinstance(found, Mapping):
        raise Unreadable("not a map of users", "write NAME: HASH, as htpasswd -nB prints them")
    hashes = {text(name): text(hashed) for name, hashed in found.items()}
    for name, hashed in hashes.items():
        if _NO_NAME.search(name) or name in {ANONYMOUS, EVERY_USER}:
            raise Unreadable(f"{name!r} can't be a user's name", "choose another name")
        if not is_bcrypt(hashed):
            raise Unreadable(
                f"the password of {name!r} is not bcrypt", "write it with htpasswd -nB"
            )
    return hashes


def show(given: tuple[AccessRule, ...]) -> str:
    """Return the access rules as one readable line."""
    return "; ".join(map(str, given)) or "no rules: all requests are denied"


def _problems(given: object) -> Iterator[str]:
    if isinstance(given, AccessRule):
        return
    if not isinstance(given, Mapping):
        yield "not a map"
        return
    yield from (
        f"no such key: {each}{suggestion(each, _KEYS)}" for each in given if each not in _KEYS
    )
    valid: dict[str, tuple[str, ...]] = {}
    for key, wrong in _WRONG.items():
        try:
            valid[key] = _listed(key, given.get(key, ()))
        except Unreadable as error:
            yield f"{key}: {error.message}"
        else:
            yield from (f"{key}: {each}" for each in wrong(valid[key]))
    if ANONYMOUS in valid.get("user", ()) and set(valid.get("allow", ())) - {"pull"}:
        yield f"allow: {ANONYMOUS} may only pull"


def _listed(key: str, given: object) -> tuple[str, ...]:
    """Return *given*, the value of *key* in an access rule, as a tuple of texts.

    A text is split at spaces and commas. The text of `user` is not split, because the name of a
    user can contain spaces.

    Raises: Unreadable.
    """
    if isinstance(given, str):
        return (text(given),) if key == "user" else words(given)
    return words(given)


def _wrong_users(named: tuple[str, ...]) -> Iterator[str]:
    if not named:
        yield f"none; name a user, {EVERY_USER} for every user, or {ANONYMOUS}"
    yield from (f"{each!r} can't be a name" for each in named if _NO_NAME.search(each))


def _wrong_patterns(named: tuple[str, ...]) -> Iterator[str]:
    if not named:
        yield "none; ** means every repository"
    yield from (f"{each!r} can't be a name or a pattern" for each in named if not is_pattern(each))


def _wrong_actions(named: tuple[str, ...]) -> Iterator[str]:
    if not named:
        yield f"none; {', '.join(_ACTIONS)}"
    yield from (
        f"no {each!r}{suggestion(each, _ACTIONS)}" for each in named if each not in _ACTIONS
    )


_WRONG: Final = {"user": _wrong_users, "repository": _wrong_patterns, "allow": _wrong_actions}


def is_pattern(given: str) -> bool:
    """Return whether *given* is the name of a repository or a pattern for such names."""
    return _PATTERN.fullmatch(given) is not None


def _rule(given: Mapping[str, object]) -> AccessRule:
    user, repository, allow = (_listed(key, given[key]) for key in _KEYS)
    return AccessRule(user, repository, tuple(each for each in _ACTIONS if each in allow))
