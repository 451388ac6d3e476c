"""Test `Section`, which reads the values of its attributes and reports unreadable values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest

from entrepot.config.errors import Unreadable
from entrepot.config.section import (
    InvalidValues,
    ReadBy,
    Section,
    WrittenBy,
    internal,
    section,
    setting,
)


def _number(given: object) -> int:
    try:
        return int(str(given))
    except ValueError as error:
        raise Unreadable("not a number", "try 1") from error


_Number = Annotated[int, ReadBy(_number)]
_Name = Annotated[str, ReadBy(lambda given: str(given).lower())]
_Pair = Annotated[
    tuple[int, int],
    ReadBy(lambda given: tuple(map(int, str(given).split("x")))),
    WrittenBy(lambda pair: f"{pair[0]}x{pair[1]}"),
]


def _twice(before: dict[str, int]) -> int:
    return 2 * before["number"]


class _Inner(Section):
    number: _Number = setting("1", "a number")
    double: _Number = setting(_twice, "depends on the number")


class _Outer(Section):
    inner: _Inner = section(_Inner)
    maybe: _Inner | None = None
    limit: _Number | None = setting(None, "a number, or none")
    named: dict[_Name, _Inner] = section(dict)
    size: _Pair = setting("2x3", "two numbers")
    key: _Name = setting("none", "a secret", secret=True)
    folder: Path = internal(Path())


def _errors(**given: object) -> dict[str, str]:
    with pytest.raises(InvalidValues) as raised:
        _Outer.from_tree(given)
    return {".".join(each.place): each.error.message for each in raised.value.found}


def test_defaults_are_read_like_given_values() -> None:
    """A default is read like the text of an operator, and may depend on other values."""
    found = _Outer()

    assert (found.inner.number, found.inner.double, found.size) == (1, 2, (2, 3))
    assert (found.maybe, found.limit, found.named) == (None, None, {})
    assert _Outer(inner={"number": "5"}).inner.double == 10


def test_a_tree_is_read_down_to_its_last_value() -> None:
    """Sections, optional sections and maps of sections are read from plain values."""
    tree = {"maybe": {}, "limit": "7", "named": {"A": {"number": "4"}}, "size": "1x2"}

    found = _Outer.from_tree(tree)

    assert found.maybe == _Inner()
    assert found.named == {"a": _Inner(number=4)}
    assert (found.limit, found.size) == (7, (1, 2))


def test_each_invalid_value_is_reported_with_its_place() -> None:
    """All invalid values are reported at once, without errors of defaults that depend on them."""
    assert _errors(
        inner={"number": "x", "other": 1},
        maybe="text",
        limit="many",
        named={"a": {"number": "y"}},
    ) == {
        "inner.other": "no such setting",
        "inner.number": "not a number",
        "maybe": "not a map",
        "limit": "not a number",
        "named.a.number": "not a number",
    }


def test_a_section_is_equal_after_it_was_written_and_read() -> None:
    """A section is written as plain JSON values, and these are read as an equal section."""
    before = _Outer.from_tree({"maybe": {"number": 3}, "named": {"b": {}}, "size": "5x6"})

    after = _Outer.from_tree(json.loads(json.dumps(before.as_tree())))

    assert after == before
    assert before.as_tree()["size"] == "5x6"
    assert "folder" not in before.as_tree()


def test_a_section_cannot_be_changed() -> None:
    """A section is immutable; `changed` returns a copy with other values."""
    before = _Outer()
    after = before.changed(folder=Path("/run"))

    with pytest.raises(AttributeError, match="cannot be changed"):
        before.folder = Path("/run")
    assert (before.folder, after.folder) == (Path(), Path("/run"))
    assert after != before
    assert after.changed(folder=Path()) == before


def test_secrets_are_not_shown() -> None:
    """The text of a section, as a traceback may show it, has no secret."""
    assert "sesame" not in repr(_Outer(key="sesame"))
    assert "number=1" in repr(_Outer(key="sesame"))
