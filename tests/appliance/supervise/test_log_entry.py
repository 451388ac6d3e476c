"""Tests that lines in each log format are parsed back into level, message and fields."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from entrepot.appliance.supervise.log_entry import PARSERS, LogEntry, of_record
from entrepot.runtime import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Return a stream for log lines, and restore Python's logging after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def _parsed(formatter: str, stream: io.StringIO) -> LogEntry | None:
    return PARSERS[formatter](stream.getvalue().rstrip("\n"))


@pytest.mark.parametrize("formatter", list(logs.FORMATTERS))
def test_a_line_of_each_format_is_parsed(stream: io.StringIO, formatter: str) -> None:
    """A log line of each format is parsed into level, message and fields with spaces and quotes."""
    logs.configure("info", formatter, "registry", fields={"service": "a b"}, stream=stream)

    logging.getLogger("x").warning("not stored", extra={"why": 'a "b" c=d', "path": "/data"})

    entry = _parsed(formatter, stream)
    assert entry is not None
    assert (entry.levels, entry.message) == (frozenset({"warn"}), "not stored")
    fields = {"why": 'a "b" c=d', "path": "/data", "service": "a b", "process": "registry"}
    assert fields == {name: entry.fields[name] for name in fields}


@pytest.mark.parametrize("formatter", list(logs.FORMATTERS))
def test_an_error_with_a_traceback_has_the_level_panic_too(
    stream: io.StringIO, formatter: str
) -> None:
    """A log line with a traceback also has the level panic, as in docker distribution."""
    logs.configure("info", formatter, "registry", stream=stream)

    try:
        int("no")
    except ValueError:
        logging.getLogger("x").exception("request failed")

    entry = _parsed(formatter, stream)
    assert entry is not None
    assert entry.levels == {"error", "panic"}
    assert "ValueError" in str(entry.fields["traceback"])


@pytest.mark.parametrize("formatter", list(logs.FORMATTERS))
@pytest.mark.parametrize("line", ["", "Traceback (most recent call last):", "[1]", '{"level": 1}'])
def test_other_output_is_no_entry(formatter: str, line: str) -> None:
    """If a program prints a line that is not a log line, the line is not parsed into an entry."""
    assert PARSERS[formatter](line) is None


def test_an_error_after_which_all_programs_end_has_the_level_fatal_too() -> None:
    """A critical line of `serve`, after which all programs stop, also has the level fatal."""
    record = logging.makeLogRecord(
        {"levelno": logging.CRITICAL, "msg": "supervisord ended", "how": "killed"}
    )

    entry = of_record(record, "serve")
    assert entry.levels == {"error", "fatal"}
    assert (entry.message, entry.fields["how"]) == ("supervisord ended", "killed")
