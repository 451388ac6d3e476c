"""Tests that `loads` parses untrusted JSON with a limit on memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.datastore.bounded_json import MOST_VALUES, loads
from tests.sizes import scaled

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=5), below, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=scaled(25, 80))
def test_any_json_value_is_parsed(value: Any) -> None:
    """`loads` parses any JSON value as the standard library does."""
    text = json.dumps(value)
    if "Infinity" not in text:
        assert loads(text.encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"9" * 5000,
        b"NaN",
        b"[Infinity]",
        b"[1e999]",
        b"-1e400",
        b"\xff",
        b"",
        b"{",
        b"{}" + b" " * 10 + b"{}",
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=lambda each: repr(each[:20]),
)
def test_any_defect_is_a_value_error(data: bytes) -> None:
    """For any text that is not valid JSON, `loads` raises ValueError and no other exception."""
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        loads(data)


@pytest.mark.parametrize("piece", [b"{},", b"[],", b'"ab",', b"0,", b"[[],", b'{"a":['])
def test_four_megabytes_with_too_many_values_are_not_parsed(piece: bytes) -> None:
    """JSON of 4 MiB with too many values is refused before it is parsed.

    Each parsed value needs memory, and sixteen threads of a worker can parse JSON at the same time.
    """
    data = b"[" + piece * (4 * 1024 * 1024 // len(piece))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than"):
            loads(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1024 * 1024


def test_a_document_at_the_bound_is_parsed() -> None:
    """JSON with exactly the permitted number of brackets and commas is parsed."""
    inner = b",".join([b"1"] * (MOST_VALUES - 1))

    assert len(list(loads(b"[" + inner + b"]"))) == MOST_VALUES - 1  # type: ignore[call-overload]


@pytest.mark.parametrize(("count", "is_refused"), [(100_000, False), (100_001, True)])
def test_values_are_counted_over_the_whole_document(count: int, *, is_refused: bool) -> None:
    """`loads` counts the values of the whole text, including its last bytes."""
    # `loads` counts opening brackets and commas. Here these are one bracket and count - 1 commas.
    data = b"[0" + b",         0" * (count - 1) + b"]"
    if is_refused:
        with pytest.raises(ValueError, match="more than 100000 values"):
            loads(data, 100_000)
    else:
        assert isinstance(loads(data, 100_000), list)
