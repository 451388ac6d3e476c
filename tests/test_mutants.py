"""Tests of the mutants for `python -m tests.mutation`: one fault each, chosen by a seed."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import mutants

SOURCE = '''
import logging
log = logging.getLogger(__name__)
SIZE: int = 8

def ends(items: list[int], most: int = 3) -> bool:
    """Return 1 thing."""
    if not items:
        log.info("none of 7")
        raise ValueError(items)
    found = [each for each in items if each < most]
    most += len(found)
    return SIZE == most or items is found
'''


@pytest.fixture(scope="module")
def lines() -> set[str]:
    """Return all changed lines of all mutants of one source."""
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    every = mutants(SOURCE, 1000, "1")
    return {
        line.strip() for each in every for line in each.source.splitlines() if line not in plain
    }


@pytest.mark.parametrize(
    "line",
    [
        "SIZE: int = 9",
        "def ends(items: list[int], most: int=4) -> bool:",
        "return",
        "if not not items:",
        "found = [each for each in items if not each < most]",
        "found = [each for each in items if each <= most]",
        "return SIZE == most and items is found",
        "return SIZE != most or items is found",
        "return SIZE == most or items is not found",
        "pass",
    ],
)
def test_each_kind_of_fault_is_made(lines: set[str], line: str) -> None:
    """The mutants of a module contain a fault of each kind."""
    assert line in lines


def test_texts_for_people_are_not_changed() -> None:
    """No mutant changes docstrings, log calls or annotations, which no test checks."""
    for each in mutants(SOURCE, 1000, "1"):
        assert "Return 1 thing." in each.source
        assert "none of 7" in each.source
        assert "items: list[int]" in each.source


def test_a_mutant_is_found_again_by_its_seed() -> None:
    """The same seed gives the same mutants, and their number is bounded."""
    assert mutants(SOURCE, 4, "1") == mutants(SOURCE, 4, "1")
    assert mutants(SOURCE, 4, "1") != mutants(SOURCE, 4, "2")
    assert len(mutants(SOURCE, 4, "1")) == 4


def test_every_mutant_differs_and_names_its_line() -> None:
    """Every mutant differs from its module, and names the lines that differ."""
    plain = ast.unparse(ast.parse(SOURCE))
    for each in mutants(SOURCE, 1000, "1"):
        assert each.source != plain
        assert 1 <= each.first <= each.last <= SOURCE.count("\n")


def test_a_constant_is_found_by_the_lines_that_use_it() -> None:
    """A mutant of a constant is tried with the tests that run the lines which use the constant.

    The constant's own line runs at the import, before any test.
    """
    every = {each.before: each.used for each in mutants(SOURCE, 1000, "1")}

    assert every["8"] == {13}
    assert every["3"] == frozenset()
    assert every["not items"] == {8}
