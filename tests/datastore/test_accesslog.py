"""The two lines that processes leave for the logger."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.accesslog import AccessLine, Event, parse, parse_event, write_event
from datastore.errors import InvalidLine

LINE = AccessLine(
    start=1_790_000_000_000,
    duration=12,
    method="GET",
    status=200,
    termination="--",
    bytes=12345,
    digest="sha256:" + "a" * 64,
    repository="docker.io/library/alpine",
    kind="blob",
    cache="entrepot; hit",
    user="",
    source="127.0.0.1:1234",
    uri="/v2/docker.io/library/alpine/blobs/sha256:" + "a" * 64,
)

_NUMBERS = st.integers(-(2**53), 2**53)
_LINES = st.builds(
    AccessLine,
    **{
        name: _NUMBERS if isinstance(value, int) else st.text(max_size=50)
        for name, value in asdict(LINE).items()
    },
)


@given(_LINES)
def test_a_line_survives_json(line: AccessLine) -> None:
    """Whatever a client put into it: JSON escapes it, and the parser gives it back."""
    assert parse(json.dumps(asdict(line)).encode()) == line


def test_an_answer_ends_its_duration_after_its_start() -> None:
    """In seconds, from two numbers in milliseconds."""
    assert LINE.end == 1_790_000_000.012


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"\xff\xfe{",
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"start": 1}',
        json.dumps(asdict(LINE) | {"status": "x"}).encode(),
        json.dumps(asdict(LINE) | {"bytes": None}).encode(),
        json.dumps(asdict(LINE) | {"start": float("inf")}).encode(),
        json.dumps(asdict(LINE) | {"start": 10**400}).encode(),
        b'{"start": 1' + b"0" * 5000 + b"}",
    ],
    ids=lambda line: repr(line[:12]),
)
def test_what_is_no_line_is_refused_in_one_way(line: bytes) -> None:
    """A reader catches InvalidLine and nothing else."""
    with pytest.raises(InvalidLine):
        parse(line)


def test_an_event_survives_its_file(tmp_path: Path) -> None:
    """What one process appended another reads."""
    path = tmp_path / "events.log"
    events = [Event("breaker", 1.5, {"upstream": "a"}), Event("download", 2, {"bytes": 7})]
    for event in events:
        write_event(path, event)

    assert [parse_event(line) for line in path.read_bytes().splitlines()] == events


@pytest.mark.parametrize(
    "line",
    [b"", b"7", b'{"event": "x"}', b'{"event": "x", "at": "y"}', b'{"event": "x", "at": 1e999999}'],
)
def test_what_is_no_event_is_refused_in_one_way(line: bytes) -> None:
    """Infinity is no time."""
    with pytest.raises(InvalidLine):
        parse_event(line)


def test_an_event_at_a_time_that_no_float_holds_is_refused() -> None:
    """Python's integers are longer than its floats."""
    with pytest.raises(InvalidLine):
        parse_event(b'{"event": "x", "at": 1' + b"0" * 400 + b"}")
