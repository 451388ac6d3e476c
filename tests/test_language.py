"""Tests of the repository's prose, which stays within the limits of docs/style.md."""

from __future__ import annotations

import pytest

from tests.language import LIMITS, ROOT, count, rates
from tests.sentences import draw


def test_the_repository_is_within_the_limits() -> None:
    """The constructions that docs/style.md rules out are rare in the repository.

    `python -m tests.language` prints the counts of each file.
    """
    found = rates([ROOT])

    assert {name: rate for name, rate in found.items() if rate > LIMITS[name]} == {}


@pytest.mark.parametrize(
    ("sentence", "construction"),
    [
        ("What is stored is served.", "what is"),
        ("Nobody reads it.", "nobody"),
        ("Whoever asks gets it.", "whoever"),
        ("It tells the worker.", "tell"),
        ("The header says so.", "say"),
        ("He closes the file.", "he"),
        ("It waits, for the disk is slow.", ", for"),
    ],
)
def test_each_construction_is_counted(sentence: str, construction: str) -> None:
    """A construction that docs/style.md rules out is counted under its name in `LIMITS`."""
    assert {name for name, number in count(sentence).items() if number} == {construction}


def test_plain_sentences_are_not_counted() -> None:
    """A plain sentence is not counted, even if it has some words of a construction."""
    plain = "What is the size? The file, for example, waits for the disk. Return the name."

    assert sum(count(plain).values()) == 0


def test_a_draw_of_sentences_can_be_repeated() -> None:
    """The same seed draws the same sentences, and another seed draws other sentences.

    Each sentence has the number of the line at which it begins. The words of a sentence may
    continue on the next lines, so the test looks only for its first word.
    """
    drawn = draw(60, "a")

    assert drawn == draw(60, "a")
    assert drawn != draw(60, "b")
    assert {kind for _, _, kind, _ in drawn} <= {"comment", "docstring", "message", "page"}
    for path, line, _, sentence in drawn:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        assert sentence.split()[0] in " ".join(lines[line - 1 : line + 3])
