"""Tests of the functions that read single values: each returns a value or raises an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.config import readers
from entrepot.config.errors import Unreadable


@pytest.mark.parametrize("text", ["true", "True", "yes", "on", "1", True], ids=repr)
def test_each_of_these_words_switches_on(text: object) -> None:
    """Each of these words of YAML and shells is read as true."""
    assert readers.switch(text) is True


@pytest.mark.parametrize("text", ["false", "NO", "off", "0", False], ids=repr)
def test_each_of_these_words_switches_off(text: object) -> None:
    """Each of these words of YAML and shells is read as false."""
    assert readers.switch(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2", None, [], {}], ids=repr)
def test_another_word_is_an_error(text: object) -> None:
    """A word that means neither true nor false is an error, and is never read as false."""
    with pytest.raises(Unreadable, match="neither true nor false; try true"):
        readers.switch(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a b", ("a", "b")),
        ("a,b, c", ("a", "b", "c")),
        ("[a, b]", ("a", "b")),
        (["a", "b"], ("a", "b")),
        ("", ()),
        ([], ()),
        ("one", ("one",)),
    ],
    ids=repr,
)
def test_words_are_a_list_or_a_text(given: object, expected: tuple[str, ...]) -> None:
    """Words are a YAML list, or one text with spaces or commas between the words."""
    assert expected == readers.words(given)


@pytest.mark.parametrize("given", [{"a": "b"}, 5, "[a, b", [["a"]], [None]], ids=repr)
def test_other_types_are_no_words(given: object) -> None:
    """A map, a number, or a list in a list is an error where words are expected."""
    with pytest.raises(Unreadable):
        readers.words(given)


def test_a_path_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path becomes absolute, because programs may have other working directories."""
    monkeypatch.chdir(tmp_path)

    assert tmp_path / "data" == readers.path("./data")


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\udc80", "", None, ["a"]], ids=repr)
def test_a_text_is_one_line(text: object) -> None:
    """A text setting is one line, because it is written to log lines, headers and files."""
    with pytest.raises(Unreadable):
        readers.text(text)


@pytest.mark.parametrize("text", ["0", "17", "-1", "2.5", "two", "", "99999999999"])
def test_a_count_stays_within_its_bounds(text: str) -> None:
    """A count out of its bounds is an error that shows both bounds."""
    with pytest.raises(Unreadable, match="not a whole number from 1 to 16; try 2"):
        readers.count(1, 16, such_as=2)(text)


def test_a_choice_suggests_the_nearest_word() -> None:
    """A message about a choice suggests the nearest word, such as `warn` for `warning`."""
    with pytest.raises(Unreadable, match="not one of info, warn; try warn"):
        readers.choice("info", "warn")("warning")


def test_an_optional_value_may_be_none() -> None:
    """An empty text and the word `none` are read as None by an optional setting."""
    read = readers.optional(readers.text, "none")

    assert [read(each) for each in ("", "none", None, "a")] == [None, None, None, "a"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("5", 5), ("100000", 100_000), ("", 1000), (None, 1000), ("0", 1000), ("-1", 1000)],
)
def test_a_page_size_that_is_not_positive_is_the_default(given: object, expected: int) -> None:
    """A page size that is not positive is read as 1,000, as in docker distribution."""
    assert readers.page_size(given) == expected


@pytest.mark.parametrize("given", ["100001", "x", "-x", "1.5"])
def test_a_page_size_is_bounded(given: str) -> None:
    """The page size of the catalog is bounded, because a page needs memory."""
    with pytest.raises(Unreadable, match="not a whole number from 0 to 100000"):
        readers.page_size(given)
