"""Parse YAML into nodes, with bounds on size, depth and the expansion of aliases.

Without these bounds, a file of 1 kB could expand to terabytes. An alias repeats a whole list, so
lists of aliases to other lists of aliases multiply the number of values at each level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import yaml

# A configuration file may have at most this many bytes; 5,000 users with their hashes need 0.5 MB.
LARGEST: Final = 2**20
_MOST_VALUES: Final = 50_000
_NO_ALIASES: Final = "write each value once, without aliases"
# A document may have at most this many nested levels; the deepest setting has 8.
_DEEPEST: Final = 64


class TooLarge(yaml.MarkedYAMLError):
    """The YAML document exceeds a bound.

    `problem` names the exceeded bound, and `remedy` states how to stay below it.
    """

    def __init__(self, problem: str, remedy: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class _Extent:
    """An `_Extent` is the number of values and of levels of a YAML node with expanded aliases."""

    values: int
    levels: int


class Loader(yaml.SafeLoader):
    """This YAML loader raises an error at the first node that exceeds a bound."""

    def __init__(self, content: str | bytes) -> None:
        if len(content) > LARGEST:
            raise TooLarge(f"larger than {LARGEST // 2**20} MiB", "name the configuration file")
        super().__init__(content)
        self._extents: dict[int, _Extent] = {}
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one YAML node and the nodes below it. Raises: TooLarge, MarkedYAMLError."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs have no types here
        is_alias = isinstance(event, yaml.AliasEvent)
        self._level += 1
        self._check(_Extent(len(self._extents), self._level), event.start_mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias and id(node) not in self._extents:
            raise TooLarge("an alias contains itself", _NO_ALIASES, event.start_mark)
        if node is not None and not is_alias:
            self._extents[id(node)] = extent = self._measured(node)
            self._check(extent, event.start_mark)
        return node

    def _measured(self, node: yaml.Node) -> _Extent:
        below = [self._extents[id(each)] for each in _children(node)]
        values = 1 + sum(each.values for each in below)
        return _Extent(values, 1 + max((each.levels for each in below), default=0))

    def _check(self, extent: _Extent, mark: yaml.Mark) -> None:
        if extent.values > _MOST_VALUES:
            raise TooLarge(
                f"more than {_MOST_VALUES:,} values with expanded aliases", _NO_ALIASES, mark
            )
        if extent.levels > _DEEPEST:
            raise TooLarge(f"more than {_DEEPEST} levels", "compare config/example.yml", mark)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
