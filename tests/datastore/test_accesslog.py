"""Tests that lines of the access log and of the events file are parsed correctly."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore import accesslog
from entrepot.datastore.accesslog import (
    AccessLine,
    AccessLog,
    Event,
    Repeated,
    parse,
    parse_event,
    write_event,
)
from entrepot.datastore.errors import InvalidLine

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
def test_a_line_can_be_parsed_with_any_field_values(line: AccessLine) -> None:
    """A log line can be parsed with any values of its fields, because JSON escapes every text."""
    assert parse(json.dumps(asdict(line)).encode()) == line


def test_end_is_start_plus_duration_in_seconds() -> None:
    """The end of a response (in seconds) is its start plus its duration (both in milliseconds)."""
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
def test_a_malformed_line_raises_invalid_line(line: bytes) -> None:
    """A malformed log line raises InvalidLine and no other exception."""
    with pytest.raises(InvalidLine):
        parse(line)


# ---- lines of the access log, read in batches


def _written(line: AccessLine) -> bytes:
    """Return a line of the access log as HAProxy writes it."""
    return json.dumps(asdict(line), separators=(",", ":")).replace("/", "\\/").encode()


def _parsed(lines: list[bytes]) -> list[Repeated]:
    """Return the lines after parsing each of them separately; skip malformed lines."""
    found = list[Repeated]()
    for line in lines:
        with suppress(InvalidLine):
            found.append((parse(line), 1))
    return found


def _summary(found: list[Repeated]) -> dict[object, tuple[int, int]]:
    """Return, for the lines that differ only in their start, their number and latest start."""
    summary = dict[object, tuple[int, int]]()
    for line, count in found:
        values = astuple(line)[1:]
        start, before = summary.get(values, (line.start, 0))
        summary[values] = max(start, line.start), before + count
    return summary


_TIME = st.integers(1_790_000_000_000, 1_790_000_000_005)
_SIMILAR_LINES = st.builds(
    replace,
    st.sampled_from([LINE, replace(LINE, method="HEAD"), replace(LINE, user='"start":1')]),
    start=_TIME,
    duration=st.integers(-1, 2),
)
_UNUSUAL_LINES = [
    _written(replace(LINE, start=7)),
    json.dumps(asdict(LINE)).encode(),
    _written(LINE).replace(b'"duration":12', b'"duration":012'),
    _written(LINE).replace(b'"duration":12', b'"duration":12.5'),
    _written(LINE).replace(b'"status":200', b'"status":"x"'),
    _written(LINE).replace(b'"status":200', b'"status":"200"'),
    _written(LINE)[:-1] + b',"start":5}',
    _written(LINE)[:-1] + b',"st\\u0061rt":5}',
    _written(LINE)[:-1] + b',"more":5}',
    _written(LINE)[:-9],
    _written(LINE)[:18],
    b'{"start":1790000000000,"duration":3,"method"',
    b"junk",
    b"",
]


@given(
    st.lists(
        st.lists(_SIMILAR_LINES.map(_written) | st.sampled_from(_UNUSUAL_LINES), max_size=20),
        max_size=4,
    )
)
def test_lines_read_in_batches_have_the_values_of_single_lines(batches: list[list[bytes]]) -> None:
    """If log lines are read in batches, the result is the same as if each were parsed separately.

    Neither the other lines of a batch nor earlier batches change the result.
    """
    log = AccessLog()
    for lines in batches:
        found, errors = log.read(lines)

        assert _summary(found) == _summary(_parsed(lines))
        assert len(errors) == len(lines) - len(_parsed(lines))


def test_lines_that_differ_in_start_only_are_grouped() -> None:
    """Of log lines that differ only in their start, `read` returns the latest, and their number.

    Neither the order of the lines nor an earlier batch has an effect.
    """
    log, later = AccessLog(), replace(LINE, start=LINE.start + 5)
    other = replace(LINE, duration=13)
    lines = [_written(each) for each in (LINE, later, other, LINE)]

    assert log.read(lines) == ([(later, 3), (other, 1)], [])
    assert log.read(lines[:1]) == ([(LINE, 1)], [])
    assert len(log._known) == 1


def test_the_memory_for_known_lines_is_bounded() -> None:
    """The memory for remembered log lines stays within its limit, even if all lines differ."""
    log, rest = AccessLog(), 64 * 1024
    line = replace(LINE, uri="/" * rest)
    most = accesslog.KEPT_BYTES + 2 * rest
    for number in range(2 * most // rest):
        log.read([_written(replace(line, bytes=number))])

        assert sum(len(each) for each in log._known) <= most


def test_a_written_event_can_be_parsed(tmp_path: Path) -> None:
    """Events that were written to the events file can be parsed from its lines."""
    path = tmp_path / "events.log"
    events = [Event("breaker", 1.5, {"upstream": "a"}), Event("download", 2, {"bytes": 7})]
    for event in events:
        write_event(path, event)

    assert [parse_event(line) for line in path.read_bytes().splitlines()] == events


@pytest.mark.parametrize(
    "line",
    [b"", b"7", b'{"event": "x"}', b'{"event": "x", "at": "y"}', b'{"event": "x", "at": 1e999999}'],
)
def test_a_malformed_event_raises_invalid_line(line: bytes) -> None:
    """A malformed line of the events file, or one with an infinite time, raises InvalidLine."""
    with pytest.raises(InvalidLine):
        parse_event(line)


def test_an_event_time_beyond_the_range_of_float_is_rejected() -> None:
    """An event is rejected if its time is an integer that is too large for a float."""
    with pytest.raises(InvalidLine):
        parse_event(b'{"event": "x", "at": 1' + b"0" * 400 + b"}")
