"""Match names of repositories with patterns that have `*` and `**`.

A name consists of components, which slashes separate. `*` matches any characters within one
component: `team/*` matches `team/app` but not `team/app/web`. `**` must be a whole component, and
matches one or more components: `team/**` matches both `team/app` and `team/app/web`. Before a
slash, `**` can also match no component: `**/app` matches `app`.
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
    """A `Globs` is the set of repositories whose names match at least one of *patterns*.

    Raises: InvalidRepository if a pattern is invalid.
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
    """Replace consecutive `**` with one `**`, which matches the same names in less time."""
    following = [*parts[1:], ""]
    return [
        each for each, after in zip(parts, following, strict=True) if each != after or each != "**"
    ]


def _sections(parts: list[str]) -> list[list[str]]:
    """Split the components of a pattern before each `**`."""
    sections: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            sections.append([])
        sections[-1].append(part)
    return sections


def _section(parts: list[str]) -> str:
    """Return the regular expression for the components up to the next `**`.

    The components can match at several places of a name. If the first place does not lead to a
    match of the whole name, no later place does, because the next `**` matches any number of
    components. Therefore the expression is an atomic group, which tries only the first place. So
    the time for a match grows at most with the square of the name's length, even if the pattern has
    many stars.
    """
    components = "".join(f"{_component(part)}/" for part in parts if part != "**")
    return f"(?>(?:[^/]+/)*?{components})" if parts[:1] == ["**"] else components


def _ending(parts: list[str]) -> str:
    """Return the regular expression for the components after the last `**`.

    They must match at the end of the name.
    """
    if parts == ["**"]:
        return ".+"
    components = "/".join(_component(part) for part in parts if part != "**")
    return f"(?:[^/]+/)*{components}" if parts[0] == "**" else components


def _component(part: str) -> str:
    """Return the regular expression for one component.

    The stars in *part* separate fixed texts. The last text must be at the end of the component, and
    each text before it matches at the first place where it occurs.
    """
    first, *others = part.split("*")
    if not others:
        return re.escape(first)
    *middle, last = others
    pieces = "".join(f"(?>[^/]*?{re.escape(piece)})" for piece in middle if piece)
    return f"{re.escape(first)}{pieces}[^/]*{re.escape(last)}(?![^/])"
