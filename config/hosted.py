"""Read the retention rules of `hosted:`, which state how long pushed content is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from entrepot.config import readers, units
from entrepot.config.access import is_pattern
from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

_KEYS: Final = ("ttl", "keep", "untagged")
_COUNT: Final = readers.count(0, 1_000_000, such_as=10)
_EXAMPLE: Final = "try {ci/**: {ttl: 7d, keep: 10}}"


@dataclass(frozen=True, slots=True)
class HostedRule:
    """A `HostedRule` states how long content that is pushed to matching repositories is kept.

    `repository` is a pattern. An image is kept for `ttl` seconds after its last use, and a manifest
    without a tag for `untagged` seconds; 0 means for ever. `untagged` is None if it is not set.
    `keep` is the number of tags that are always kept. If `keep` is set and `ttl` is 0, all other
    tags are evicted at once.
    """

    repository: str
    ttl: float = 0
    keep: int = 0
    untagged: float | None = None

    def __str__(self) -> str:
        parts = [f"ttl {units.show_span(self.ttl)}"] if self.ttl else []
        parts += [f"keep {self.keep}"] if self.keep else []
        parts += [] if self.untagged is None else [f"untagged {units.show_span(self.untagged)}"]
        return f"{self.repository} {', '.join(parts) or 'for ever'}"


def rules(given: object) -> tuple[HostedRule, ...]:
    """Read a map from patterns to retention rules, or the YAML text of such a map.

    Raises: Unreadable, which lists every problem.
    """
    found = from_yaml(given, _EXAMPLE)
    # A tuple is copied from a `Settings` object, so it is already parsed.
    if isinstance(found, tuple):
        return found
    if found is None or found == "":
        return ()
    if not isinstance(found, Mapping):
        raise Unreadable("not a map of rules", _EXAMPLE)
    problems = [problem for pattern, rule in found.items() for problem in _problems(pattern, rule)]
    if problems:
        raise Unreadable(", ".join(problems), _EXAMPLE)
    return tuple(_rule(str(pattern), rule) for pattern, rule in found.items())


def as_map(given: tuple[HostedRule, ...]) -> dict[str, dict[str, float | int | None]]:
    """Return the retention rules as a map that `rules` can read."""
    return {
        each.repository: {"ttl": each.ttl, "keep": each.keep, "untagged": each.untagged}
        for each in given
    }


def show(given: tuple[HostedRule, ...]) -> str:
    """Return the retention rules as one readable line."""
    return "; ".join(map(str, given)) or "none"


def _problems(pattern: object, given: object) -> Iterator[str]:
    if not isinstance(pattern, str) or not _can_match_hosted(pattern):
        yield f"{pattern!r} can't be a name or a pattern"
    if not readers.is_set(given):
        return
    if not isinstance(given, Mapping):
        yield f"{pattern}: not a map"
        return
    for key in given:
        if key not in _KEYS:
            yield f"{pattern}: no such key: {key}{readers.suggestion(str(key), _KEYS)}"
    try:
        _rule("", given)
    except Unreadable as error:
        yield f"{pattern}: {error.message}"


def _can_match_hosted(pattern: str) -> bool:
    """Return whether *pattern* can match the name of a hosted repository.

    The names of hosted repositories contain neither capital letters nor a port.
    """
    return is_pattern(pattern) and pattern == pattern.lower() and ":" not in pattern


def _rule(pattern: str, given: object) -> HostedRule:
    """Return the retention rule of a pattern. Raises: Unreadable."""
    fields = dict(given) if isinstance(given, Mapping) else {}
    return HostedRule(
        pattern,
        units.span(fields["ttl"]) if readers.is_set(fields.get("ttl")) else 0,
        _COUNT(fields["keep"]) if readers.is_set(fields.get("keep")) else 0,
        units.span(fields["untagged"]) if readers.is_set(fields.get("untagged")) else None,
    )
