"""Reads the rules of `hosted:`: which names are pushed here, and how long what is pushed stays."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from config import readers, units
from config.access import is_pattern
from config.errors import Unreadable

_KEYS: Final = ("ttl", "keep", "untagged")
_COUNT: Final = readers.count(0, 1_000_000, such_as=10)
_EXAMPLE: Final = "try {ci/**: {ttl: 7d, keep: 10}}"


@dataclass(frozen=True, slots=True)
class HostedRule:
    """How long what is pushed to the repositories of a pattern stays.

    `ttl` and `untagged` are s, 0 for ever, and `untagged` None where nobody has said it; `keep`
    is a number of tags.
    """

    repository: str
    ttl: float = 0
    keep: int = 0
    untagged: float | None = None

    def __str__(self) -> str:
        said = [f"ttl {units.show_span(self.ttl)}"] if self.ttl else []
        said += [f"keep {self.keep}"] if self.keep else []
        said += [] if self.untagged is None else [f"untagged {units.show_span(self.untagged)}"]
        return f"{self.repository} {', '.join(said) or 'for ever'}"


def rules(given: object) -> tuple[HostedRule, ...]:
    """Read a map of patterns, or its YAML. Raises: Unreadable, with every problem."""
    found = _from_yaml(given)
    if isinstance(found, tuple):  # they are read already
        return found
    if found is None or found == "":
        return ()
    if not isinstance(found, Mapping):
        raise Unreadable("not a map of rules", _EXAMPLE)
    problems = [problem for pattern, said in found.items() for problem in _problems(pattern, said)]
    if problems:
        raise Unreadable(", ".join(problems), _EXAMPLE)
    return tuple(_rule(str(pattern), said) for pattern, said in found.items())


def as_map(given: tuple[HostedRule, ...]) -> dict[str, dict[str, float | int | None]]:
    """Write rules so that `rules` reads them."""
    return {
        each.repository: {"ttl": each.ttl, "keep": each.keep, "untagged": each.untagged}
        for each in given
    }


def show(given: tuple[HostedRule, ...]) -> str:
    """Write rules on one line, for a person to read."""
    return "; ".join(map(str, given)) or "none"


def _problems(pattern: object, given: object) -> Iterator[str]:
    if not isinstance(pattern, str) or not _is_of_names_here(pattern):
        yield f"{pattern!r} can't be a name or a pattern"
    if not _is_said(given):
        return
    if not isinstance(given, Mapping):
        yield f"{pattern}: not a map"
        return
    for key in given:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key).lower(), _KEYS, 1)
            meant = f"did you mean {near[0]}?" if near else f"but {', '.join(_KEYS)}"
            yield f"{pattern}: no such key: {key}, {meant}"
    try:
        _rule("", given)
    except Unreadable as error:
        yield f"{pattern}: {error.message}"


def _is_of_names_here(pattern: str) -> bool:
    """Say whether names that are pushed to may fit: they have no capitals, and no port."""
    return is_pattern(pattern) and pattern == pattern.lower() and ":" not in pattern


def _rule(pattern: str, given: object) -> HostedRule:
    """Read what is said of a pattern. Raises: Unreadable."""
    said = dict(given) if isinstance(given, Mapping) else {}
    return HostedRule(
        pattern,
        units.span(said["ttl"]) if _is_said(said.get("ttl")) else 0,
        _COUNT(said["keep"]) if _is_said(said.get("keep")) else 0,
        units.span(said["untagged"]) if _is_said(said.get("untagged")) else None,
    )


def _is_said(given: object) -> bool:
    return given is not None and given != ""


def _from_yaml(given: object) -> object:
    """Return what a variable or a flag holds; of the file it is read already."""
    if not isinstance(given, str):
        return given
    try:
        return yaml.load(given, yaml.BaseLoader)  # noqa: S506 - it builds texts, lists and maps only
    except yaml.YAMLError as error:
        raise Unreadable("not YAML", _EXAMPLE) from error
