"""List and look up the keys of all settings, and suggest the correct key for a misspelt key.

A key is a tuple of names such as `("upstreams", "docker.io", "url")`. A text with dots between the
names would be ambiguous because a host contains dots.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import get_args, get_origin

from entrepot.config.distribution import ROWS, DistributionKey, KeySupport
from entrepot.config.schema import Settings
from entrepot.config.section import Field, Section, fields_of
from entrepot.config.sources import cache_server
from entrepot.config.value_types import ValueUnit

Key = tuple[str, ...]

# Operators cannot set these fields of `Settings`.
_INTERNAL = {"adjusted", "followed", "run"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A `Setting` describes one setting.

    In `key`, `*` stands for a host. The first entry of `variables` is the variable that help texts
    and documentation show. `default` is the default as an operator would write it. If
    `empty_counts` is true, an empty variable sets an empty value; otherwise an empty variable is
    ignored.
    """

    key: str
    variables: tuple[str, ...]
    default: str
    unit: str
    meaning: str
    is_secret: bool
    empty_counts: bool

    @property
    def is_switch(self) -> bool:
        """Return whether the flag of this setting can be used without a value."""
        return self.default in {"true", "false"}


@cache
def settings() -> dict[Key, Setting]:
    """Return a map from each key to its setting, in the order of the schema."""
    return {key: _setting(key, field) for key, field in _walk(Settings, ())}


@cache
def names() -> frozenset[Key]:
    """Return every known key.

    These are the keys of the settings, of docker distribution and of docker-cache-server.
    """
    return frozenset([*settings(), *map(_name_of, ROWS), *_other_names()])


@cache
def _other_names() -> frozenset[Key]:
    return frozenset(map(_name_of, cache_server.ROWS))


@cache
def _refused_names() -> frozenset[Key]:
    refused = (row for row in ROWS if row.verdict is KeySupport.REFUSED)
    return frozenset(_name_of(row) for row in refused)


def _name_of(row: DistributionKey) -> Key:
    return tuple(row.key.removesuffix(".**").split("."))


def find(key: Key) -> Setting | DistributionKey | None:
    """Return the setting with *key*, or the row for *key* in a table of other programs' keys.

    Return None if *key* is unknown.
    """
    return _find(general(key))


@lru_cache(maxsize=4096)
def _find(key: Key) -> Setting | DistributionKey | None:
    rows = (row for row in (*ROWS, *cache_server.ROWS) if row.matches(key))
    return settings().get(key) or next(rows, None)


def is_section(key: Key) -> bool:
    """Return whether *key* is a section, which means that known keys begin with it."""
    return general(key) in _sections()


@cache
def _sections() -> frozenset[Key]:
    return frozenset(name[:end] for name in names() for end in range(len(name)))


def unknown_part(key: Key) -> Key:
    """Return the shortest prefix of an unknown *key* that is itself unknown."""
    return next(key[:end] for end in range(1, len(key) + 1) if not is_section(key[:end]))


def nearest(key: Key) -> str:
    """Return the known key that is most similar to *key*, or an empty text."""
    above, last = key[:-1], key[-1]
    known = names() - _refused_names()
    good = sorted(known - _other_names())
    beside = {name[len(above)] for name in known if name[: len(above)] == general(above)}
    longer = sorted(name for name in beside if last and name.startswith(last))
    if near := longer or difflib.get_close_matches(last, sorted(beside - {"*"}), 1):
        return ".".join((*above, near[0]))
    elsewhere = [".".join(name) for name in good if name[-1] == last]
    near = elsewhere or difflib.get_close_matches(".".join(key), map(".".join, good), 1)
    return near[0] if near else ""


def general(key: Key) -> Key:
    """Return *key* with `*` in place of an upstream's host."""
    is_of_a_host = len(key) > 1 and key[0] == "upstreams"
    return ("upstreams", "*", *key[2:]) if is_of_a_host else key


def _walk(model: type[Section], above: Key) -> Iterator[tuple[Key, Field]]:
    for field in fields_of(model):
        name, section = field.name, _section_in(field.annotation)
        if name in _INTERNAL and not above:
            continue
        if section is None:
            yield (*above, name), field
        else:
            host = ("*",) if get_origin(field.annotation) is dict else ()
            yield from _walk(section, (*above, name, *host))


def _section_in(annotation: object) -> type[Section] | None:
    candidates = (annotation, *get_args(annotation))
    found = (each for each in candidates if isinstance(each, type) and issubclass(each, Section))
    return next(found, None)


def _setting(key: Key, field: Field) -> Setting:
    made = "_".join(("REGISTRY", *key)).upper()
    units = [each.name for each in field.metadata if isinstance(each, ValueUnit)]
    declared = field.default
    return Setting(
        key=".".join(key),
        variables=() if "*" in key else tuple(dict.fromkeys(filter(None, (declared.env, made)))),
        default=declared.shown or _as_written(declared.value),
        unit="".join(units),
        meaning=declared.meaning,
        is_secret=declared.is_secret,
        empty_counts=_may_be_empty(field.annotation),
    )


def _as_written(default: object) -> str:
    return "none" if default is None or default == () else str(default)


def _may_be_empty(annotation: object) -> bool:
    return type(None) in get_args(annotation) or get_origin(annotation) is tuple
