"""Read YAML from the configuration file, or from a variable or flag that contains a map.

This module walks PyYAML's tree of nodes instead of letting PyYAML build Python objects. So a
password `0123` stays text, and the line number of every value is available for messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from entrepot.config import keys
from entrepot.config.errors import Problem
from entrepot.config.keys import Key, Setting
from entrepot.config.raw_value import RawValue, SourceValues
from entrepot.config.sources.bounded_yaml import LARGEST, Loader, TooLarge

# The sections `auth` and `storage` can also be a single name, which selects the scheme or driver.
_CHOICES = {("auth",), ("storage",)}
# The values of `log.fields` can be numbers or Booleans, and this module reads all values as texts.
# So the function that reads `log.fields` gets the YAML text of the whole map.
_TYPED = {("log", "fields")}
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class _Place:
    """A `_Place` names the source of values in messages.

    `name` is a variable, a flag or the path of a file; a message also shows the line if `name` is a
    file.
    """

    name: str
    is_file: bool

    def origin(self, line: int) -> str:
        return f"{self.name}:{line}" if self.is_file else self.name

    def of(self, key: Key, line: int) -> str:
        dotted = ".".join(key)
        return f"{self.origin(line)}: {dotted}" if self.is_file and dotted else self.origin(line)


def read_file(path: Path, named: str) -> SourceValues:
    """Read the configuration file.

    If the file can't be read, the message of the problem begins with *named*.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    # A ValueError means that the path contains a NUL character.
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        problem = Problem(named, why.lower(), "name a YAML file that can be read")
        return SourceValues(problems=[problem])
    return read_content(content, str(path))


def read_content(content: bytes, path: str) -> SourceValues:
    """Parse *content*, the content of the configuration file at *path*."""
    return _read(content, (), _Place(path, is_file=True))


def read_value(text: str, key: Key, name: str) -> SourceValues:
    """Read the text of the variable or flag *name*, which sets *key*.

    If *key* is a section, the text is parsed as YAML. If *key* is a setting, the text is not parsed
    here, so that `[::1]:5000` and the password `%x: [` are valid values.
    """
    if keys.find(key) is not None:
        return SourceValues([RawValue(key, text, name, name)])
    return _read(text, key, _Place(name, is_file=False))


def _read(content: str | bytes, key: Key, place: _Place) -> SourceValues:
    try:
        loader = Loader(content)
        node = loader.get_single_node()
        walk = _NodeWalk(place, loader.flatten_mapping)
        if node is not None:
            walk.visit(key, node)
    except TooLarge as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = Problem(place.of((), line), error.problem or "", error.remedy)
        return SourceValues(problems=[problem])
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return _not_yaml(place, line, error.problem or "malformed")
    except yaml.reader.ReaderError as error:
        return _not_yaml(place, 1, f"{error.reason} at position {error.position}")
    return walk.reading


def _not_yaml(place: _Place, line: int, why: str) -> SourceValues:
    why = " ".join(why.split())
    problem = Problem(place.of((), line), f"not YAML: {why}", "compare config/example.yml")
    return SourceValues(problems=[problem])


class _NodeWalk:
    """A `_NodeWalk` visits the nodes of a YAML document and collects the values of settings."""

    def __init__(self, place: _Place, flatten: Callable[[yaml.MappingNode], None]) -> None:
        self._place = place
        self._flatten = flatten
        self.reading = SourceValues()

    def visit(self, key: Key, node: yaml.Node) -> None:
        """Collect the values of *node*, which belongs to *key*."""
        if keys.find(key) is not None or (key and not keys.is_section(key)):
            self._leaf(key, node)
        elif isinstance(node, yaml.MappingNode):
            self._section(key, node)
        elif node.tag == _NULL or node.value == "":
            self._note(key, {}, node)
        elif isinstance(node, yaml.ScalarNode) and key in _CHOICES:
            self._note((*key, node.value), {}, node, chooses=True)
        else:
            self._object(key, node, "one value instead of a map")

    def _section(self, key: Key, node: yaml.MappingNode) -> None:
        self._note(key, {}, node)  # Even an empty section, such as `auth.htpasswd`, has an effect.
        self._refuse_duplicates(key, node)
        self._flatten(node)
        for name, child in node.value:
            self.visit((*key, _name(name)), child)

    def _refuse_duplicates(self, key: Key, node: yaml.MappingNode) -> None:
        first: dict[str, int] = {}
        for each, _ in node.value:
            name = _name(each)
            if name in first:
                self._object((*key, name), each, f"already set in line {first[name]}")
            first.setdefault(name, each.start_mark.line + 1)

    def _leaf(self, key: Key, node: yaml.Node) -> None:
        value = _yaml(node) if key in _TYPED else _plain(node, {})
        if value is not None:
            self._note(key, value, node)
        elif not isinstance(keys.find(key), Setting):
            self._note(key, {}, node)

    def _note(self, key: Key, value: object, node: yaml.Node, *, chooses: bool = False) -> None:
        if not key:
            return  # The root of the document has no key.
        line = node.start_mark.line + 1
        origin, name = self._place.origin(line), self._place.of(key, line)
        self.reading.given.append(RawValue(key, value, origin, name, chooses))

    def _object(self, key: Key, node: yaml.Node, message: str) -> None:
        name = self._place.of(key, node.start_mark.line + 1)
        self.reading.problems.append(Problem(name, message, "compare config/example.yml"))


def _yaml(node: yaml.Node) -> str | None:
    """Return a node as YAML text on one line; return None for a null node."""
    if node.tag == _NULL:
        return None
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = True
    text: str = yaml.serialize(node, Dumper=yaml.SafeDumper, width=math.inf, allow_unicode=True)
    return text.strip()


def _plain(node: yaml.Node, seen: dict[int, object]) -> object:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else str(node.value)
    if id(node) not in seen:  # An alias refers to an earlier node, which the walk reads only once.
        seen[id(node)] = _children(node, seen)
    return seen[id(node)]


def _children(node: yaml.Node, seen: dict[int, object]) -> object:
    if isinstance(node, yaml.MappingNode):
        return {_name(name): _plain(child, seen) for name, child in node.value}
    return [_plain(child, seen) for child in node.value]


def _name(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "{...}"
