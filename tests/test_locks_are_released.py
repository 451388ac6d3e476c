"""Tests of the source code: every lock is released, whatever fails."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent
_TAKES = {"try_lock", "try_lock_present", "lock", "_locked", "_taken", "_place"}
_RELEASES = {"close", "release", "shutdown"}
_TREES = {
    path.relative_to(_ROOT): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((_ROOT / package).rglob("*.py"))
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST) -> Iterator[_Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, _Function))


def _taken(function: _Function) -> Iterator[tuple[str, int]]:
    """Yield each name to which a function assigns a lock, and the line of the assignment."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _is_lock(node.value):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.NamedExpr) and _is_lock(node.value):
            targets = [node.target]
        else:
            continue
        yield from ((each.id, node.lineno) for each in targets if isinstance(each, ast.Name))


def _is_lock(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and getattr(value.func, "id", getattr(value.func, "attr", None)) in _TAKES
    )


def _released(function: _Function) -> set[str]:
    """Return the names of locks that a `with` statement, an exit stack or the caller releases."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.With):
            found |= {name for item in node.items for name in _names(item.context_expr)}
        elif isinstance(node, ast.Return) and node.value:
            found |= _names(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _PASSES_ON:
            found |= {name for each in node.args for name in _names(each)}
    return found


_PASSES_ON = {"callback", "enter_context"}


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _unprotected(body: list[ast.stmt]) -> Iterator[int]:
    """Yield each line of a `finally` that releases a lock after a statement that may fail."""
    has_called = False
    for statement in body:
        releases = isinstance(statement, ast.Expr) and _is_release(statement.value)
        if releases and has_called:
            yield statement.lineno
        has_called = has_called or (not releases and _may_fail(statement))


def _is_release(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "attr", "") in _RELEASES


def _may_fail(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.With) and all(_suppresses(each) for each in statement.items):
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(statement))


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "suppress"


def _finals(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the body of every `finally`, and of the `if` statements in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.finalbody:
            yield node.finalbody
            yield from (
                below.body
                for each in node.finalbody
                for below in ast.walk(each)
                if isinstance(below, ast.If)
            )


def test_a_lock_is_taken_in_a_with_statement() -> None:
    """A lock that a function assigns to a name is released, even if the function fails.

    The test accepts three ways: the lock is entered by `with`, passed to an exit stack, or returned
    to the caller.
    """
    lost = [
        f"{path}:{line} {name}"
        for path, tree in _TREES.items()
        # locks.py defines the functions with which the other modules take locks
        if path.name != "locks.py"
        for function in _functions(tree)
        for name, line in _taken(function)
        if name not in _released(function)
    ]

    assert lost == []


def test_a_release_does_not_wait_for_other_cleanup() -> None:
    """In a `finally` a lock is released first, because other cleanup can fail."""
    skipped = [
        f"{path}:{line}"
        for path, tree in _TREES.items()
        for body in _finals(tree)
        for line in _unprotected(body)
    ]

    assert skipped == []


def test_the_rules_detect_violations() -> None:
    """The checks above find a lock that is not released if another cleanup fails."""
    tree = ast.parse(
        "def f():\n"
        "    held = lock(path, 1)\n"
        "    try:\n"
        "        work()\n"
        "    finally:\n"
        "        if held:\n"
        "            held.unlink()\n"
        "            held.close()\n"
    )
    (function,) = _functions(tree)

    assert list(_taken(function)) == [("held", 2)]
    assert _released(function) == set()
    assert [line for body in _finals(tree) for line in _unprotected(body)] == [8]
