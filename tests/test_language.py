"""Tests of the repository's prose, which stays within the limits of docs/style.md."""

from __future__ import annotations

import pytest

from tests.language import LIMITS, ROOT, count, rates
from tests.sentences import draw, every_sentence


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
    """The same seed draws the same sentences, and another seed draws other sentences."""
    assert draw(60, "a") == draw(60, "a")
    assert draw(60, "a") != draw(60, "b")


def test_each_sentence_is_at_its_line() -> None:
    """Each sentence has the line of its file at which it begins, or one of the three lines before.

    Only the first word is compared. Messages are not compared, because the syntax tree does not
    contain the spelling of an f-string.
    """
    lines_of = {
        path: (ROOT / path).read_text(encoding="utf-8").splitlines()
        for path in {path for path, _, _, _ in every_sentence()}
    }
    for path, line, kind, sentence in every_sentence():
        lines = lines_of[path]
        assert 0 < line <= len(lines)
        if kind != "message":
            assert sentence.split()[0] in " ".join(lines[line - 1 : line + 3])
