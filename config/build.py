"""Build `Settings` from the merged values, and report one problem for each invalid value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrepot.config import keys
from entrepot.config.errors import Problem
from entrepot.config.keys import Key, Setting
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Settings
from entrepot.config.section import InvalidValue, InvalidValues

_SCHEMES = {("auth", name) for name in ("htpasswd", "token", "silly")}
_DRIVERS = {("storage", name) for name in ("azure", "inmemory", "oss", "s3")}


@dataclass(frozen=True, slots=True)
class Built:
    """A `Built` holds the settings, the valid raw values (`used`) and the problems."""

    settings: Settings
    used: Mapping[Key, RawValue]
    problems: list[Problem]


def build(given: Mapping[Key, RawValue]) -> Built:
    """Build the settings from raw values.

    An invalid value causes a problem, and the setting keeps its default.
    """
    try:
        return Built(Settings.from_tree(_tree(given)), given, [])
    except InvalidValues as error:
        found = error.found
    problems = [_problem(each, given) for each in found]
    bad = {_part_to_drop(each.place) for each in found}
    left = {key: each for key, each in given.items() if not any(key[: len(b)] == b for b in bad)}
    assert len(left) < len(given)  # noqa: S101 - defaults are valid, so errors are in given values
    rest = build(left)
    return Built(rest.settings, rest.used, problems + rest.problems)


def _tree(given: Mapping[Key, RawValue]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, each in given.items():
        if isinstance(keys.find(key), Setting):
            _section(tree, key[:-1])[key[-1]] = each.value
        elif key in _SCHEMES | _DRIVERS or (key[0] == "upstreams" and key[1:]):
            # Even an empty section has an effect: it selects a scheme, a driver or an upstream.
            _section(tree, key)
    return tree


def _section(tree: dict[str, Any], key: Key) -> dict[str, Any]:
    for name in key:
        tree = tree.setdefault(name, {})
    return tree


def _part_to_drop(key: Key) -> Key:
    return key[:2] if key[:2] in _SCHEMES else key


def _problem(found: InvalidValue, given: Mapping[Key, RawValue]) -> Problem:
    key, error = found.place, found.error
    setting = keys.find(key)
    is_secret = isinstance(setting, Setting) and setting.is_secret
    return given[key].problem(error.message, error.remedy, is_secret=is_secret)
