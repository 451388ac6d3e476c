"""Implement the subset of Go's templates and of Helm's functions that charts/entrepot uses.

Helm is not available everywhere. Unsupported syntax of a template is an error, so that the chart
can't use more than this subset. If `helm` is installed, the tests compare Helm's output with the
output of this module.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_EXPONENT = 1e6  # fmt.Sprint(1e6) is 1e+06; Helm reads numbers of a file as float64
_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|:=|[()|,]|[^\s()|,]+)')


@dataclass(slots=True)
class Node:
    """A part of a template: a text, an action, or a block with its branches."""

    kind: str
    word: str = ""
    body: list[Node] = field(default_factory=list)
    alternative: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """The values that an action of a template can use: `.`, the variables, and named templates."""

    dot: Any
    variables: Mapping[str, Any]
    defined: Mapping[str, list[Node]]

    def at(self, dot: Any, **variables: Any) -> Scope:
        """Return the scope inside a block that sets `.` to *dot*."""
        return Scope(dot, {**self.variables, **variables}, self.defined)


def parse(text: str) -> list[Node]:
    """Parse a template into nodes. Raises: ValueError for unsupported syntax."""
    nodes, rest = _block(_pieces(text))
    if rest is not None:
        raise ValueError(f"{rest} without a block")
    return nodes


def definitions(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """Return the nodes of each template that a `define` block names."""
    return {json.loads(each.word): each.body for each in nodes if each.kind == "define"}


def render(nodes: Sequence[Node], scope: Scope) -> str:
    """Return the output of a template's nodes in a scope.

    Raises: ValueError for unsupported syntax.
    """
    written = []
    for each in nodes:
        if each.kind == "assign":
            name, _, words = each.word.partition(":=")
            scope = scope.at(scope.dot, **{name.strip(): _value(words, scope)})
        else:
            written.append(_rendered(each, scope))
    return "".join(written)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield the texts and the actions of a template alternately.

    The white space beside `{{-` and `-}}` is removed.
    """
    start, eats = 0, False
    for match in _ACTION.finditer(text):
        before = text[start : match.start()]
        before = before.lstrip() if eats else before
        yield "text", before.rstrip() if match[1] else before
        yield "action", match[2].strip()
        start, eats = match.end(), bool(match[3])
    yield "text", text[start:].lstrip() if eats else text[start:]


def _block(pieces: Iterator[tuple[str, str]]) -> tuple[list[Node], str | None]:
    """Parse a block up to its `end` or `else`, and return the nodes and that word."""
    nodes: list[Node] = []
    for kind, text in pieces:
        word, _, rest = text.partition(" ")
        if kind == "text":
            nodes.append(Node("text", text))
        elif text.startswith("/*"):
            continue
        elif word in {"end", "else"}:
            return nodes, word
        elif word in {"if", "with", "range", "define"}:
            nodes.append(_branches(Node(word, rest), pieces))
        elif word.startswith("$") and rest.startswith(":="):
            nodes.append(Node("assign", text))
        else:
            nodes.append(Node("output", text))
    return nodes, None


def _branches(node: Node, pieces: Iterator[tuple[str, str]]) -> Node:
    node.body, ended = _block(pieces)
    if ended == "else":
        node.alternative, ended = _block(pieces)
    if ended != "end":
        raise ValueError(f"{node.kind} {node.word} without an end")
    return node


def _rendered(node: Node, scope: Scope) -> str:
    if node.kind == "text":
        return node.word
    if node.kind == "define":
        return ""
    if node.kind == "output":
        return _written(_value(node.word, scope))
    if node.kind == "range":
        return _ranged(node, scope)
    value = _value(node.word, scope)
    inside = scope.at(value) if node.kind == "with" else scope
    return render(node.body, inside) if value else render(node.alternative, scope)


def _ranged(node: Node, scope: Scope) -> str:
    names, assigns, words = node.word.rpartition(":=")
    found = _value(words, scope)
    pairs = sorted(found.items()) if isinstance(found, Mapping) else list(enumerate(found))
    keys = [each.strip() for each in names.split(",")] if assigns else []
    return "".join(
        render(node.body, scope.at(value, **dict(zip(keys, (key, value), strict=False))))
        for key, value in pairs
    )


def _value(words: str, scope: Scope) -> Any:
    tokens = _TOKEN.findall(words)
    value, rest = _pipeline(tokens, scope)
    if rest:
        raise ValueError(f"unexpected words in {words!r}")
    return value


def _pipeline(tokens: list[str], scope: Scope) -> tuple[Any, list[str]]:
    value, tokens = _command(tokens, scope, ())
    while tokens and tokens[0] == "|":
        value, tokens = _command(tokens[1:], scope, (value,))
    return value, tokens


def _command(tokens: list[str], scope: Scope, piped: tuple[Any, ...]) -> tuple[Any, list[str]]:
    name, arguments = tokens[0], []
    if name in _FUNCTIONS:
        tokens = tokens[1:]
    while tokens and tokens[0] not in {"|", ")"}:
        argument, tokens = _operand(tokens, scope)
        arguments.append(argument)
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](scope, *arguments, *piped), tokens
    if len(arguments) != 1 or piped:
        raise ValueError(f"unknown function: {name}")
    return arguments[0], tokens


def _operand(tokens: list[str], scope: Scope) -> tuple[Any, list[str]]:
    word, rest = tokens[0], tokens[1:]
    if word == "(":
        value, rest = _pipeline(rest, scope)
        return value, rest[1:]
    if word.startswith('"'):
        return json.loads(word), rest
    if word.isdigit():
        return int(word), rest
    head, _, path = word.partition(".")
    if head and not head.startswith("$"):
        raise ValueError(f"unknown word: {word}")
    return _field(scope.variables[head] if head else scope.dot, path), rest


def _field(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        # a value that values.yaml lacks is an error here, unlike in Helm
        value = value[name]
    return value


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) >= _EXPONENT:
        raise ValueError(f"Helm prints {value} with an exponent")
    return "" if value is None else str(value)


def _printed(_: Scope, shape: str, *values: Any) -> str:
    return shape % tuple(each if isinstance(each, int | float) else str(each) for each in values)


def _changed(_: Scope, found: dict[str, Any], name: str, *value: Any) -> dict[str, Any]:
    """Set or remove an entry of a dictionary in place, and return the dictionary."""
    found.pop(name, None)
    for each in value:
        found[name] = each
    return found


def _to_yaml(_: Scope, value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=False)).rstrip("\n")


def _kind(value: Any) -> str:
    """Return Go's kind of a value of a YAML file."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "float64" if is_number else type(value).__name__


def _indented(_: Scope, width: int, text: str) -> str:
    return "\n" + "\n".join(" " * width + line for line in text.split("\n"))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "include": lambda scope, name, dot: render(scope.defined[name], scope.at(dot)),
    "printf": _printed,
    "dict": lambda _, *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "set": _changed,
    "unset": _changed,
    "and": lambda _, *values: next((each for each in values if not each), values[-1]),
    "eq": lambda _, one, other: one == other,
    "floor": lambda _, value: math.floor(value),
    "kindIs": lambda _, kind, value: kind == _kind(value),
    "trim": lambda _, text: text.strip(),
    "sha256sum": lambda _, text: hashlib.sha256(text.encode()).hexdigest(),
    "default": lambda _, alternative, value=None: value or alternative,
    "not": lambda _, value: not value,
    "or": lambda _, *values: next(filter(None, values), values[-1]),
    "get": lambda _, found, name: found.get(name, ""),
    "upper": lambda _, value: value.upper(),
    "toJson": lambda _, value: json.dumps(value, separators=(",", ":"), sort_keys=True),
    "quote": lambda _, value: json.dumps(_written(value)),
    "b64enc": lambda _, value: base64.b64encode(value.encode()).decode(),
    "nindent": _indented,
    "toYaml": _to_yaml,
}
