"""One value at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import readers
from config.errors import Unreadable


@pytest.mark.parametrize("text", ["true", "True", "yes", "on", "1", True], ids=repr)
def test_a_switch_is_on_in_any_of_these_words(text: object) -> None:
    """YAML's words and the shell's."""
    assert readers.switch(text) is True


@pytest.mark.parametrize("text", ["false", "NO", "off", "0", False], ids=repr)
def test_a_switch_is_off_in_any_of_these_words(text: object) -> None:
    """YAML's words and the shell's."""
    assert readers.switch(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2", None, [], {}], ids=repr)
def test_a_switch_is_nothing_else(text: object) -> None:
    """An unreadable switch is told, never taken for off."""
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
    """The environment has no lists: spaces and commas part, or it is YAML."""
    assert expected == readers.words(given)


@pytest.mark.parametrize("given", [{"a": "b"}, 5, "[a, b", [["a"]], [None]], ids=repr)
def test_words_are_nothing_else(given: object) -> None:
    """A map, a number and a list in a list are told."""
    with pytest.raises(Unreadable):
        readers.words(given)


def test_a_path_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs of the appliance may run in another directory than the one it was started in."""
    monkeypatch.chdir(tmp_path)

    assert tmp_path / "data" == readers.path("./data")


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\udc80", "", None, ["a"]], ids=repr)
def test_a_text_is_one_line(text: object) -> None:
    """It goes into log lines, headers and other files."""
    with pytest.raises(Unreadable):
        readers.text(text)


@pytest.mark.parametrize("text", ["0", "17", "-1", "2.5", "two", "", "99999999999"])
def test_a_count_stays_within_its_bounds(text: str) -> None:
    """The message names both."""
    with pytest.raises(Unreadable, match="not a whole number from 1 to 16; try 2"):
        readers.count(1, 16, such_as=2)(text)


def test_a_choice_suggests_the_nearest_word() -> None:
    """`warning` is what other programs call it."""
    with pytest.raises(Unreadable, match="not one of info, warn; try warn"):
        readers.choice("info", "warn")("warning")


def test_an_optional_value_may_be_nothing() -> None:
    """An empty text is none, and so are the words that say so."""
    read = readers.optional(readers.text, "none")

    assert [read(each) for each in ("", "none", None, "a")] == [None, None, None, "a"]
