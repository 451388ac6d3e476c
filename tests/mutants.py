"""Makes mutants of a module: copies with one small fault each, which a test should find."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_LOGGERS = ("log", "_log", "logger", "logging")


@dataclass(frozen=True, slots=True)
class Mutant:
    """The source of a module with one fault.

    `first` to `last` are the lines of the changed code. A test must run one of the lines in `used`
    to find the fault. `used` has the changed lines or, if these define a constant at import, the
    lines that use the constant. If `used` is empty, every test can find the fault.
    """

    operator: str
    first: int
    last: int
    used: frozenset[int]
    before: str
    source: str


@dataclass(frozen=True, slots=True)
class _Change:
    operator: str
    node: ast.stmt | ast.expr
    apply: Callable[[], None]


def mutants(source: str, most: int, seed: str) -> list[Mutant]:
    """Return at most *most* mutants of *source*, chosen by *seed*, in the order of their lines."""
    count = len(list(_changes(ast.parse(source))))
    chosen = sorted(random.Random(seed).sample(range(count), min(most, count)))
    return sorted((_mutant(source, number) for number in chosen), key=lambda each: each.first)


def _mutant(source: str, number: int) -> Mutant:
    tree = ast.parse(source)
    change = list(_changes(tree))[number]
    node = change.node
    used = _used(tree, node)
    before = ast.unparse(node).partition("\n")[0]
    change.apply()
    return Mutant(
        change.operator,
        node.lineno,
        node.end_lineno or node.lineno,
        used,
        before,
        ast.unparse(ast.fix_missing_locations(tree)),
    )


def _used(tree: ast.Module, changed: ast.stmt | ast.expr) -> frozenset[int]:
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    inside = {inner for each in functions for stmt in each.body for inner in ast.walk(stmt)}
    if changed in inside:
        return frozenset(range(changed.lineno, (changed.end_lineno or changed.lineno) + 1))
    names = {
        target.id
        for each in tree.body
        if changed in set(ast.walk(each)) and isinstance(each, ast.Assign | ast.AnnAssign)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if isinstance(target, ast.Name)
    }
    return frozenset(n.lineno for n in inside if isinstance(n, ast.Name) and n.id in names)


def _changes(tree: ast.Module) -> Iterator[_Change]:
    skipped = _skipped(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        yield from _changed_condition(node)
        yield from _changed_operator(node)
        yield from _changed_constant(node)
        yield from _changed_body(node, skipped)


def _skipped(tree: ast.Module) -> set[ast.AST]:
    """Return the code that is never changed: annotations, decorators, docstrings, log calls."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            roots += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            roots += node.decorator_list
        elif isinstance(node, ast.arg | ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.Constant) or _is_log_call(node.value)
        ):
            roots.append(node)
    return {inner for root in roots if root is not None for inner in ast.walk(root)}


def _is_log_call(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and isinstance(value.func.value, ast.Name)
        and value.func.value.id in _LOGGERS
    )


def _changed_condition(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):

        def negate() -> None:
            node.test = ast.UnaryOp(ast.Not(), node.test)

        yield _Change("negate the condition", node.test, negate)
    if isinstance(node, ast.comprehension):
        for at, condition in enumerate(node.ifs):

            def negate_filter(at: int = at, condition: ast.expr = condition) -> None:
                node.ifs[at] = ast.UnaryOp(ast.Not(), condition)

            yield _Change("negate the filter", condition, negate_filter)


def _changed_operator(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):

        def drop_not() -> None:
            node.operand = ast.UnaryOp(ast.Not(), node.operand)

        yield _Change("drop not", node, drop_not)
    if isinstance(node, ast.BoolOp):

        def swap() -> None:
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()

        yield _Change("swap and with or", node, swap)
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):

            def compare(at: int = at, operator: ast.cmpop = operator) -> None:
                node.ops[at] = _OPPOSITES[type(operator)]()

            yield _Change("change the comparison", node, compare)


def _changed_constant(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):

        def increment() -> None:
            assert isinstance(node.value, int | float)
            node.value += 1

        yield _Change("add 1", node, increment)


def _changed_body(node: ast.AST, skipped: set[ast.AST]) -> Iterator[_Change]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        # the body of a lambda is one expression, not a list of statements
        if not isinstance(body, list):
            continue
        for at, statement in enumerate(body):
            is_dropped = isinstance(statement, ast.Expr | ast.AugAssign | ast.Raise)
            if not is_dropped or statement in skipped:
                continue

            def drop(body: list[ast.stmt] = body, at: int = at) -> None:
                body[at] = ast.Pass()

            yield _Change("drop the statement", statement, drop)
    if isinstance(node, ast.FunctionDef) and (code := [s for s in node.body if s not in skipped]):

        def end() -> None:
            node.body.insert(node.body.index(code[0]), ast.Return(None))

        yield _Change(f"return at the start of {node.name}", code[0], end)
