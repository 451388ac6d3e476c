"""Make the rules for pushes from the settings of `validation:` and `policy:`."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.config.push_settings import ValidationSettings
from entrepot.config.schema import Settings
from entrepot.registry.push.push_rules import PushRules, platforms, url_predicate
from entrepot.runtime.linear_patterns import LinearPatterns


def push_rules(settings: Settings) -> PushRules | None:
    """Return the rules for pushes, or None if neither `validation:` nor `policy:` has an effect."""
    validation, classes = settings.validation, settings.policy.repository.classes
    if not classes and not validation.is_given:
        return None
    indexes = validation.manifests.indexes
    needed = None
    if validation.is_given and (not validation.is_on or indexes.platforms == "none"):
        needed = frozenset[tuple[str, str]]()
    elif validation.is_given and indexes.platforms == "list":
        needed = platforms((each.os, each.architecture) for each in indexes.platformlist)
    return PushRules(_may_name(validation), needed, frozenset(classes))


def _may_name(validation: ValidationSettings) -> Callable[[str], bool] | None:
    """Return the predicate for URLs of layers, as in docker distribution, or None to allow all."""
    if not validation.is_given:
        return None
    urls = validation.manifests.urls
    if not validation.is_on:
        return lambda _: True
    allow = LinearPatterns(urls.allow).matches if urls.allow or not urls.deny else None
    deny = LinearPatterns(urls.deny).matches if urls.deny else None
    return url_predicate(allow, deny)
