"""Makes texts on which a regular expression is as slow as possible, and measures the cost.

A slow text has three parts: a start that the expression matches, one short piece that is repeated,
and an end that the expression does not match. The pieces are characters of the expression, pairs of
these characters, and examples of texts that a part of the expression matches.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from re import _parser  # type: ignore[attr-defined]
from typing import Any

SIZES = (20, 256, 2048, 16 * 1024, 64 * 1024)
"""The lengths of the texts for which the cost of an expression is measured.

An exponential expression is already slow at the first length, a quadratic one at a later length.
"""
MOST_WORK = 5000
"""The largest allowed cost of a character, in the units of the function `unit`.

The project's most expensive linear expression costs 2200, and a quadratic one 30,000 at 16 Ki
characters.
"""

_NUMBER_KEPT = (100, 20, 4, 2, 0)
_CLASSES = {"SPACE": " ", "DIGIT": "0", "WORD": "a"}
_OUTSIDE = "\x00!~"
_Run = Callable[[Any], object]


@dataclass(frozen=True)
class Recipe:
    """The parts of a slow text: its start, the piece that is repeated, and its end."""

    front: str
    piece: str
    end: str

    def text(self, size: int) -> str:
        """Return a slow text of about *size* characters from these parts."""
        return self.front + (self.piece * (size // len(self.piece) + 1))[:size] + self.end


_MOST_RECIPES = 600


def recipes(pattern: re.Pattern[Any]) -> list[Recipe]:
    """Return recipes for texts on which *pattern* may have to backtrack."""
    parsed = _parser.parse(pattern.pattern, pattern.flags)
    letters = list(dict.fromkeys([*_letters(parsed), *_OUTSIDE[:1]]))[:12]
    examples = [_example(parsed), *_parts(parsed)]
    pieces = dict.fromkeys([*letters, *map("".join, product(letters[:7], repeat=2)), *examples])
    fronts = dict.fromkeys(["", *_fronts(parsed)])
    every = product(filter(None, pieces), fronts, _OUTSIDE[:2])
    return [Recipe(front, piece, end) for piece, front, end in islice(every, _MOST_RECIPES)]


def work(run: _Run, text: str | bytes) -> float:
    """Return the cost for each character when *run* matches *text*, in units of `unit`."""
    return _seconds(run, text) / max(len(text), 1) / unit()


def growth(run: _Run, piece: str, front: str = "") -> float:
    """Return the factor by which a character costs more in a text of 16 Ki than of 2 Ki."""
    costs = []
    for size in (SIZES[-2], SIZES[-2] // 8):
        text = (front + piece * size)[:size]
        costs.append(min(work(run, text) for _ in range(3)))
    return costs[0] / costs[1]


@cache
def unit() -> float:
    """Return the CPU time in which this machine matches one character of a simple class (s)."""
    text = "a" * SIZES[-1]
    return min(_seconds(re.compile("[^b]*").fullmatch, text) for _ in range(20)) / len(text)


def _seconds(run: Callable[[Any], object], text: str | bytes) -> float:
    began = time.thread_time()
    run(text)
    return time.thread_time() - began


def costly(pattern: re.Pattern[Any], run: _Run) -> tuple[int, str | bytes] | None:
    """Return the first size and text on which *run* is slower than a linear expression, or None.

    For the next size, the function uses only the recipes of the most expensive texts. A text counts
    as slow only if three more measurements confirm it, so a busy machine gives no false result.
    """
    remaining = recipes(pattern)
    encode = isinstance(pattern.pattern, bytes)
    for size, kept in zip(SIZES, _NUMBER_KEPT, strict=True):
        costs: list[tuple[float, int]] = []
        for at, recipe in enumerate(remaining):
            text: str | bytes = recipe.text(size)
            if encode:
                text = recipe.text(size).encode("latin-1", "replace")
            cost = work(run, text)
            # Each call of the expression has a fixed cost, which counts more in a short text.
            most = MOST_WORK + 1_000_000 / size
            if cost > most and min(work(run, text) for _ in range(3)) > most:
                return size, text
            costs.append((cost, at))
        remaining = [remaining[at] for _, at in sorted(costs, reverse=True)[:kept]]
    return None


def _letters(parsed: Any) -> Iterator[str]:
    for kind, argument in parsed:
        match str(kind):
            case "LITERAL" | "NOT_LITERAL":
                yield chr(argument)
            case "IN":
                yield from _members(argument)
            case "ANY":
                yield "a"
            case _:
                for below in _below(argument):
                    yield from _letters(below)


def _members(items: Any) -> Iterator[str]:
    for kind, argument in items:
        match str(kind):
            case "LITERAL":
                yield chr(argument)
            case "RANGE":
                yield chr(argument[0])
            case "CATEGORY":
                yield _of_class(str(argument))
            case "NEGATE":
                yield from "a ,"


def _of_class(name: str) -> str:
    if "_NOT_" in name:
        return "a" if "SPACE" in name else "!"
    return _CLASSES[name.rpartition("_")[2]]


def _below(argument: Any) -> Iterator[Any]:
    """Yield the sub-expressions in a part of a parsed expression, at any depth."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from _below(each)


def _example(parsed: Any) -> str:
    return "".join(map(_example_of, parsed))


def _example_of(node: Any) -> str:
    kind, argument = node
    name = str(kind)
    if name.endswith("REPEAT"):
        return _example(argument[2]) * min(max(int(argument[0]), 1), 200)
    if name in {"BRANCH", "SUBPATTERN", "ATOMIC_GROUP"}:
        return _example(next(_below(argument)))
    if name in {"LITERAL", "NOT_LITERAL"}:
        return chr(argument) if name == "LITERAL" else "a"
    if name == "IN":
        return _member(argument)
    return "a" if name == "ANY" else ""


def _member(items: Any) -> str:
    members = list(_members(items))
    if str(items[0][0]) == "NEGATE":
        refused = set(_members(items[1:]))
        return next(each for each in "a!b c" if each not in refused)
    return members[0]


def _parts(parsed: Any) -> Iterator[str]:
    """Yield the fixed text of an expression, and an example of each repeated part and branch."""
    yield "".join(chr(argument) for kind, argument in parsed if str(kind) == "LITERAL")
    for kind, argument in parsed:
        if str(kind).endswith("REPEAT"):
            yield _example(argument[2])
        if str(kind) == "BRANCH":
            yield from map(_example, argument[1])
        for below in _below(argument):
            yield from _parts(below)


def _fronts(parsed: Any) -> Iterator[str]:
    """Yield an example of the text before each repetition in an expression."""
    front = ""
    for node in parsed:
        kind, argument = node
        if str(kind).endswith("REPEAT") or any(True for _ in _below(argument)):
            yield front
            yield from (front + each for below in _below(argument) for each in _fronts(below))
        front += _example_of(node)
