"""Patterns of repository names: `team/*` is one name below `team`, `team/**` all of them.

`*` stands for any part of one component, `**`, alone between slashes, for any number of
components: none of them before a slash, one at least behind the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.refs import Repository

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
    *sections, last = _sections(_without_repeats(parts))
    return "".join(map(_section, sections)) + _ending(last)


def _without_repeats(parts: list[str]) -> list[str]:
    """Take out each `**` before a `**`: they mean one, and a match would try every split."""
    following = [*parts[1:], ""]
    return [
        each for each, after in zip(parts, following, strict=True) if each != after or each != "**"
    ]


def _sections(parts: list[str]) -> list[list[str]]:
    """Divide a pattern before each `**`."""
    sections: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            sections.append([])
        sections[-1].append(part)
    return sections


def _section(parts: list[str]) -> str:
    """Match components of which a `**` follows: the first place where they stand is as good as any.

    The group is atomic, so that no other place is tried: a name costs its square at most, instead
    of a power for each star.
    """
    components = "".join(f"{_component(part)}/" for part in parts if part != "**")
    return f"(?>(?:[^/]+/)*?{components})" if parts[:1] == ["**"] else components


def _ending(parts: list[str]) -> str:
    """Match the components behind the last `**`, which end the name."""
    if parts == ["**"]:
        return ".+"
    components = "/".join(_component(part) for part in parts if part != "**")
    return f"(?:[^/]+/)*{components}" if parts[0] == "**" else components


def _component(part: str) -> str:
    """Match one component: each fixed piece where it first stands, the last one at the end."""
    first, *others = part.split("*")
    if not others:
        return re.escape(first)
    *middle, last = others
    pieces = "".join(f"(?>[^/]*?{re.escape(piece)})" for piece in middle if piece)
    return f"{re.escape(first)}{pieces}[^/]*{re.escape(last)}(?![^/])"
