"""Parse the YAML text of a setting that is a list or a map, and set one part of such a value."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from entrepot.config.errors import Unreadable
from entrepot.config.sources.bounded_yaml import Loader, TooLarge

_LONGEST_LIST = 64


def from_yaml(given: object, example: str, message: str = "not YAML") -> object:
    """Parse the YAML text of a variable or flag; return any value other than text unchanged.

    Numbers and Booleans in the YAML text are returned as texts. Raises: Unreadable with *message*
    and the remedy *example*.
    """
    if not isinstance(given, str):
        return given
    try:
        node = Loader(given).get_single_node()
    except TooLarge as error:
        raise Unreadable(error.problem or message, error.remedy) from error
    except yaml.YAMLError as error:
        raise Unreadable(message, example) from error
    return None if node is None else _plain(node)


def with_part(whole: object, path: tuple[str, ...], value: object) -> object:
    """Return a copy of *whole*, which consists of lists and maps, with *value* at *path*.

    The path `("0", "options", "to")` is the key `options.to` of the first entry of a list. The
    index after the last entry adds an entry, as in docker distribution. Raises: Unreadable.
    """
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(whole, Mapping) or not first.isdecimal():
        keys = dict(whole) if isinstance(whole, Mapping) else {}
        return {**keys, first: with_part(keys.get(first), rest, value)}
    entries = list(whole) if isinstance(whole, list | tuple) else []
    if int(first[:4]) > min(len(entries), _LONGEST_LIST):
        raise Unreadable(f"not the index of an entry: {first[:32]}", f"try {len(entries)}")
    at = int(first)
    below = entries[at] if at < len(entries) else None
    return [*entries[:at], with_part(below, rest, value), *entries[at + 1 :]]


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {_name(name): _plain(value) for name, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each) for each in node.value]
    return str(node.value)


def _name(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "{...}"
