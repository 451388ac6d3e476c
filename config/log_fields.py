"""Read `log.fields`, the fields that the operator adds to every log line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import yaml

from entrepot.config.errors import Unreadable
from entrepot.config.sources.bounded_yaml import Loader

Fields = dict[str, str | int | float | bool]

_MOST: Final = 32
_LONGEST_NAME: Final = 64
_LONGEST_VALUE: Final = 1024
_EXAMPLE: Final = "try {service: registry, environment: staging}"


class _Loader(Loader):
    """This YAML loader reads dates as text, as docker distribution does."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the base class
        first: [each for each in found if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def fields(given: object) -> Fields:
    """Read a map of names to texts, numbers or Booleans, or the YAML text of such a map.

    Raises: Unreadable.

    An entry of `log.fields` without a value is omitted, as in docker distribution.
    """
    parsed = _parsed(given) if isinstance(given, str) else given
    if parsed is None:
        return {}
    if not isinstance(parsed, Mapping):
        raise Unreadable("not a map of fields", _EXAMPLE)
    found = {
        _name(name): _value(name, value) for name, value in parsed.items() if value is not None
    }
    if len(found) > _MOST:
        raise Unreadable(f"more than {_MOST} fields", "take some out")
    return found


def merged(below: object, name: str, value: object) -> Fields:
    """Return the map *below* with one more field. Raises: Unreadable.

    *name* is the name of the field, and *value* is YAML text.
    """
    return fields({} if below is None else below) | fields({name: _parsed(str(value))})


def show(given: Fields) -> str:
    """Return the fields as one readable line."""
    return " ".join(f"{name}={_as_written(value)}" for name, value in given.items()) or "none"


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(given: object) -> str:
    name = str(given)
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise Unreadable(
            f"not the name of a field: {name[:_LONGEST_NAME]!r}", "try letters and digits"
        )
    return name


def _value(name: object, given: object) -> str | int | float | bool:
    if isinstance(given, float) and not math.isfinite(given):
        return str(given)  # JSON cannot represent such a number (infinity or NaN).
    if not isinstance(given, str | int | float | bool):
        raise Unreadable(f"{name}: the value is not a text, a number or a Boolean", _EXAMPLE)
    if len(str(given)) > _LONGEST_VALUE:
        raise Unreadable(
            f"{name}: the value is longer than {_LONGEST_VALUE} characters", "shorten it"
        )
    return given


def _parsed(given: str) -> object:
    """Parse the YAML text of `log.fields`.

    The names of a map stay as written: `on` is not read as a Boolean.
    """
    try:
        loader = _Loader(given)
        node = loader.get_single_node()
        if isinstance(node, yaml.MappingNode):
            return {
                str(name.value): loader.construct_object(value, deep=True)
                for name, value in node.value
            }
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable("not YAML", _EXAMPLE) from error
