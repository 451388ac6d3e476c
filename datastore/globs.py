"""Patterns of repository names: `team/*` matches one name below `team`, `team/**` all names.

The pattern `*` matches any part of one component. The pattern `**`, which must be a whole
component, matches any number of components: zero or more before a slash, one or more at the end of
the pattern.
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
    """A `Globs` is the set of repositories that match at least one of *patterns*.

    Raises: InvalidRepository.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        # PERF: one regular expression matches all patterns at once.
        self._names = re.compile("|".join(map(_expression, patterns)) or _NEVER)

    def __contains__(self, repository: Repository) -> bool:
        return self._names.fullmatch(repository.name) is not None


def _expression(pattern: str) -> str:
    """Translate a pattern to a regular expression. Raises: InvalidRepository."""
    parts = pattern.split("/")
    if len(pattern) > _LONGEST or not all(map(_COMPONENT.fullmatch, parts)):
        raise InvalidRepository(pattern, "not a pattern for repository names")
    *sections, last = _sections(_without_repeats(parts))
    return "".join(map(_section, sections)) + _ending(last)


def _without_repeats(parts: list[str]) -> list[str]:
    """Merge consecutive `**`: they match the same names as one `**`, but take more time."""
    following = [*parts[1:], ""]
    return [
        each for each, after in zip(parts, following, strict=True) if each != after or each != "**"
    ]


def _sections(parts: list[str]) -> list[list[str]]:
    """Split a pattern before each `**`."""
    sections: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            sections.append([])
        sections[-1].append(part)
    return sections


def _section(parts: list[str]) -> str:
    """Match the components before a `**`; only the first place where they match is tried.

    Any other place would give the same result. The group is atomic, so the regular expression does
    not try other places, and the time is at most quadratic in the length of the name, however many
    stars the pattern has.
    """
    components = "".join(f"{_component(part)}/" for part in parts if part != "**")
    return f"(?>(?:[^/]+/)*?{components})" if parts[:1] == ["**"] else components


def _ending(parts: list[str]) -> str:
    """Match the components after the last `**`, at the end of the name."""
    if parts == ["**"]:
        return ".+"
    components = "/".join(_component(part) for part in parts if part != "**")
    return f"(?:[^/]+/)*{components}" if parts[0] == "**" else components


def _component(part: str) -> str:
    """Match one component: each fixed piece at its first occurrence, the last piece at the end."""
    first, *others = part.split("*")
    if not others:
        return re.escape(first)
    *middle, last = others
    pieces = "".join(f"(?>[^/]*?{re.escape(piece)})" for piece in middle if piece)
    return f"{re.escape(first)}{pieces}[^/]*{re.escape(last)}(?![^/])"
