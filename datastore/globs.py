"""Patterns of repository names: `team/*` is one name below `team`, `team/**` all of them.

`*` stands for any part of one component, `**`, alone between slashes, for any number of
components: none of them before a slash, one at least behind the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from datastore.errors import InvalidRepository
from datastore.refs import Repository

_COMPONENT = re.compile(r"\*\*|(?:[a-z0-9._-]|\*(?!\*))+", re.ASCII)
_LONGEST = 255
_NEVER = r"(?!)"


class Globs:
    """The repositories that at least one of *patterns* means. Raises: InvalidRepository."""

    def __init__(self, patterns: Iterable[str]) -> None:
        # PERF: one expression, one match, however many patterns there are
        self._names = re.compile("|".join(map(_expression, patterns)) or _NEVER)

    def __contains__(self, repository: Repository) -> bool:
        return self._names.fullmatch(repository.name) is not None


def _expression(pattern: str) -> str:
    """Translate a pattern. Raises: InvalidRepository."""
    parts = pattern.split("/")
    if len(pattern) > _LONGEST or not all(map(_COMPONENT.fullmatch, parts)):
        raise InvalidRepository(pattern, "not a pattern of repository names")
    *above, last = _without_repeats(parts)
    return "".join(map(_above, above)) + (".+" if last == "**" else _component(last))


def _without_repeats(parts: list[str]) -> list[str]:
    """Take out each `**` before a `**`: they mean one, and a match would try every split."""
    following = [*parts[1:], ""]
    return [
        each for each, after in zip(parts, following, strict=True) if each != after or each != "**"
    ]


def _above(part: str) -> str:
    return "(?:[^/]+/)*" if part == "**" else f"{_component(part)}/"


def _component(part: str) -> str:
    return re.escape(part).replace(r"\*", "[^/]*")
