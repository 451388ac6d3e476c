"""Tests of the product's regular expressions: their cost is linear in the length of a text."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.globs import Globs
from tests.expressions import MOST_WORK, costly, recipes, work
from tests.packages import PACKAGES

ROOT = Path(__file__).parent.parent
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "split")
MADE_AT_RUN_TIME = {("datastore/globs.py", "Globs")}
"""Expressions that are built from an operator's setting; the last test of this file covers them."""


@dataclass(frozen=True)
class Use:
    """A regular expression, its place, and the methods that are called on it."""

    place: str
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]


@cache
def sources() -> list[tuple[str, ast.Module]]:
    """Return the modules of the product that may use a regular expression."""
    found = []
    for folder in PACKAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            if re.search(r"^(import|from) re\b", text, re.MULTILINE):
                found.append((str(path.relative_to(ROOT)), ast.parse(text)))
    return found


def calls(tree: ast.AST, function: str) -> Iterator[ast.Call]:
    """Yield the calls of `re.FUNCTION` in a module."""
    for node in _calls_of_re(tree):
        if ast.unparse(node.func) == f"re.{function}":
            yield node


@cache
def _calls_of_re(tree: ast.AST) -> tuple[ast.Call, ...]:
    """Return the calls of any function of `re` in a module; cached, because a walk is slow."""
    return tuple(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
    )


def named(tree: ast.Module) -> dict[ast.AST, str]:
    """Return, for each call of `re.compile` that a module assigns to a name, this name."""
    found: dict[ast.AST, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                found |= dict.fromkeys(calls(node, "compile"), target.id)
    return found


def within(tree: ast.Module, call: ast.AST) -> str:
    """Return the name of the class or function of a module that contains the call."""
    return next(
        (str(getattr(each, "name", "")) for each in tree.body if call in ast.walk(each)), ""
    )


@cache
def used() -> dict[str, set[str]]:
    """Return, for each name, the methods that any module of the product calls on it."""
    found: dict[str, set[str]] = {}
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.setdefault(node.value.id, set()).add(node.attr)
    return found


def methods(name: str) -> tuple[str, ...]:
    """Return the methods called on the expression with this name; METHODS if no call is known."""
    return tuple(sorted(used()[name].intersection(METHODS))) if name in used() else METHODS


def uses() -> Iterator[Use]:
    """Yield every regular expression of the product, compiled or written in a call."""
    for place, tree in sources():
        module = importlib.import_module(place.removesuffix(".py").replace("/", "."))
        for name in named(tree).values():
            yield Use(f"{place}:{name}", getattr(module, name), methods(name))
        for method in METHODS:
            for call in calls(tree, method):
                pattern = re.compile(ast.literal_eval(call.args[0]))
                yield Use(f"{place}:{call.lineno}", pattern, (method,))


def run_of(use: Use, method: str) -> Any:
    """Return a function that applies a regular expression to a whole text."""
    call = getattr(use.pattern, method)
    if method == "sub":
        empty = "" if isinstance(use.pattern.pattern, str) else b""
        return lambda text: call(empty, text)
    return (lambda text: list(call(text))) if method == "finditer" else call


ALL = list(uses())


def test_every_expression_is_covered() -> None:
    """The tests below cover every regular expression of the product.

    Each expression has a name in its module, is written in a call of `re`, or is in
    MADE_AT_RUN_TIME.
    """
    for place, tree in sources():
        known = named(tree)
        hidden = {within(tree, call) for call in calls(tree, "compile") if call not in known}

        assert {(place, each) for each in hidden} <= MADE_AT_RUN_TIME
    assert len(ALL) > 40


@pytest.mark.parametrize("use", ALL, ids=lambda use: use.place)
def test_the_cost_of_an_expression_is_linear(use: Use) -> None:
    """The cost of a regular expression is linear even for 64 KiB of its worst text.

    Clients send many of the matched texts. With a slow expression, one text could keep a worker
    busy for minutes.
    """
    for method in use.methods:
        found = costly(use.pattern, run_of(use, method))

        assert found is None, (method, found[0], found[1][:60])


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (r"(a+)+$", "match"),
        (r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)(?!\s*=)", "match"),
        (r'<([^>]*)>\s*((?:;\s*[a-zA-Z*]+\s*=\s*(?:"[^"]*"|[^",;\s]*)\s*)*)', "findall"),
        (r"(://[^\s?]*)\?\S*", "sub"),
    ],
)
def test_a_costly_expression_is_found(text: str, method: str) -> None:
    """The test above would fail for an exponential and for a quadratic expression."""
    use = Use("", re.compile(text), (method,))

    assert costly(use.pattern, run_of(use, method)) is not None


@pytest.mark.parametrize(
    "pattern",
    ["**", "a/**/b/**/c/*", "*a*a*a*a*", "**/*-*-*-*/**", "**/a/**/a/**/a/**/a", "*0*-*a*0*-*a/**"],
)
def test_an_operators_pattern_is_cheap_for_the_longest_name(pattern: str) -> None:
    """A pattern in an operator's settings is cheap for the longest name that a client can send."""
    names = Globs([pattern])._names
    for recipe in recipes(names):
        text = recipe.text(250)

        assert min(work(names.fullmatch, text) for _ in range(3)) < MOST_WORK
