"""Parse the log lines that the programs print, for the hooks that mail them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from entrepot.runtime.logs import fields_of, level_name

_LONGEST = 16 * 1024  # At most this many characters of a log line are parsed.
_TEXT = re.compile(r"(?P<time>\S+Z) (?P<level>error|warn|info|debug) (?P<process>[\w-]+): ")
_FIRST_FIELD = re.compile(r" [\w.@-]+=")
_FIELD = re.compile(r' ([\w.@-]+)=("(?:[^"\\]|\\.)*"|\S*)')
_LEVELS: Final = {"warning": "warn"}  # The logstash format has `warning` for `warn`.


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A `LogEntry` is a parsed log line.

    `fields` includes time, level and process. `levels` has the level of the line. For an error with
    a traceback, `levels` also has `panic`, which docker distribution uses for unexpected errors.
    For an error after which all programs exit, it also has `fatal`.
    """

    levels: frozenset[str]
    message: str
    fields: Mapping[str, object]


Parse = Callable[[str], LogEntry | None]
"""The type of functions that parse a line; they return None for a line that is not a log line."""


def of_record(record: logging.LogRecord, process: str) -> LogEntry:
    """Return the entry for a log record of this process."""
    level = level_name(record)
    fields = fields_of(record)
    levels = {level, "fatal"} if record.levelno >= logging.CRITICAL else {level}
    standard = {"level": level, "process": process}
    return LogEntry(_with_panic(levels, fields), record.getMessage(), {**standard, **fields})


def of_text(line: str) -> LogEntry | None:
    """Parse a line of `log.formatter: text`."""
    begin = _TEXT.match(line)
    if begin is None:
        return None
    rest = line[begin.end() : _LONGEST]
    first = _FIRST_FIELD.search(rest)
    at = first.start() if first else len(rest)
    fields = {name: _unquoted(value) for name, value in _FIELD.findall(rest, at)}
    level: str = begin["level"]
    levels = _with_panic({level}, fields)
    return LogEntry(levels, rest[:at], {**begin.groupdict(), **fields})


def of_json(line: str) -> LogEntry | None:
    """Parse a line of `log.formatter: json` or `logstash`."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("level"), str):
        return None
    text = found.pop("message", "")
    level = str(found["level"])
    level = _LEVELS.get(level, level)
    return LogEntry(_with_panic({level}, found), str(text), found)


PARSERS: Final[Mapping[str, Parse]] = {"text": of_text, "json": of_json, "logstash": of_json}
"""The parser for each value of `log.formatter`."""


def _with_panic(levels: set[str], fields: Mapping[str, object]) -> frozenset[str]:
    is_panic = "error" in levels and "traceback" in fields
    return frozenset(levels | {"panic"} if is_panic else levels)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # The log line is incomplete, because it was too long.
        return value
