"""Tests of the source code: functions and files have a limited length, and names follow rules."""

from __future__ import annotations

import ast
import statistics
from functools import cache
from pathlib import Path

import pytest

from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent
_VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "manager", "service", "misc"}

_FILES = sorted(
    path for package in ("bench", *PACKAGES) for path in (_ROOT / package).rglob("*.py")
)


@cache
def _functions() -> tuple[tuple[str, int], ...]:
    """Return each function's place and its number of lines without the docstring."""
    return tuple(
        (f"{path.relative_to(_ROOT)}:{node.lineno} {node.name}", _length(node))
        for path in _FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_half_of_the_functions_have_eight_lines_or_fewer() -> None:
    """Half of the functions have at most eight lines, so that they can be read at a glance."""
    lengths = [length for _, length in _functions()]

    assert statistics.median(lengths) <= 8


def test_nine_in_ten_functions_have_thirty_lines_or_fewer() -> None:
    """Nine in ten functions have at most thirty lines, so long ones are exceptions."""
    lengths = [length for _, length in _functions()]

    assert statistics.quantiles(lengths, n=10)[-1] <= 30


def test_no_function_has_more_than_fifty_lines() -> None:
    """No function has more than fifty lines, because longer ones do more than one thing."""
    assert [place for place, length in _functions() if length > 50] == []


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_a_file_has_five_hundred_lines_or_fewer(path: Path) -> None:
    """No file has more than five hundred lines, because longer files have several purposes."""
    assert len(path.read_text().splitlines()) <= 500


def test_no_module_has_a_vague_name() -> None:
    """No module has a name that does not describe its content, such as `utils`."""
    assert [str(path) for path in _FILES if _VAGUE & {path.stem, path.parent.name}] == []


def test_no_class_name_has_two_meanings() -> None:
    """No two classes have the same name, because equal names would confuse readers."""
    places: dict[str, list[str]] = {}
    for path in _FILES:
        if path.relative_to(_ROOT).parts[0] == "bench":
            continue  # bench has programs that the product does not import
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(_ROOT)))

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_program_waits_for_signals_with_sigtimedwait() -> None:
    """No program waits for signals with sigtimedwait.

    After a suspension of the process, Python's sigtimedwait can return a meaningless signal number.
    Programs use runtime/signals.py instead.
    """
    waits = ("sigtimedwait(", "sigwaitinfo(")

    assert [path.name for path in _FILES if any(each in path.read_text() for each in waits)] == []


def test_the_length_of_a_function_excludes_its_docstring() -> None:
    """The length of a function excludes its docstring, so that documentation has no limit."""
    (function,) = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n').body
    assert isinstance(function, ast.FunctionDef)

    assert _length(function) == 2
