"""Write log records to stdout: one line for each record, with a fixed message and fields.

A program logs with `log.info("blob fetched", extra={"digest": digest, "bytes": size})`. A field
must not have the name of an attribute of LogRecord, such as `name`, `process`, `message` or `args`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TextIO

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""This map translates docker distribution's names of log levels to the levels of Python's
`logging`."""

_NAMES = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(r"password|passwd|secret|token|authorization|cookie", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")
# This pattern matches control characters, line breaks, and format characters that change the order
# in which other characters are shown.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")
# The patterns `_USERINFO` and `_QUERY` match the user, the password and the query of a URL, which
# can be credentials.
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
# PERF: the query is optional in this pattern. So a match never fails after `://`, and matching
# takes linear time.
_QUERY = re.compile(r"(://[^\s?]*)(?:\?\S*)?")

# This library never logs at level debug, because its debug lines contain whole URLs.
_VERBOSE = ("urllib3",)

Value = str | int | float | bool | None
"""The types of values of a field."""


@dataclass(frozen=True, slots=True)
class LineSource:
    """A `LineSource` holds the parts that all log lines of a process have in common.

    `process` is the name of the program, and `fields` are the fields of the setting `log.fields`.
    If `has_caller` is true, each line also names the source file and function that logged it.
    """

    process: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    has_caller: bool = False


_Line = Callable[[logging.LogRecord, LineSource], str]


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A `LineFormat` is a format of log lines: a function and the names of standard fields."""

    line: _Line
    standard: frozenset[str]

    def renamed(self, fields: Mapping[str, Value]) -> dict[str, Value]:
        """Return the operator's fields with names that differ from those of standard fields.

        A field that is named like a standard field gets the prefix `fields.`, as in logrus, the
        logging library of docker distribution.
        """
        return {
            f"fields.{name}" if name in self.standard else name: value
            for name, value in fields.items()
        }


def configure(
    level: str,
    formatter: str,
    process: str,
    *,
    fields: Mapping[str, Value] | None = None,
    has_caller: bool = False,
    stream: TextIO | None = None,
    limit: logging.Filter | None = None,
) -> None:
    """Write all log records of this process to *stream*, or to stdout without *stream*.

    A later call replaces the configuration of an earlier call. *formatter* is a name in
    `FORMATTERS`. Each of *fields* is added to every line that has no field of the same name.
    *limit* selects the lines that are written (runtime/log_limit.py).
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    line_format = FORMATTERS[formatter]
    source = LineSource(process, line_format.renamed(fields or {}), has_caller)
    handler.setFormatter(_Formatter(line_format.line, source))
    if limit is not None:
        handler.addFilter(limit)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(capture=True)


def set_level(level: str) -> None:
    """Set the least severe level that the loggers of this process log.

    PERF: a change of a level writes to every logger, and each program that was forked from
    supervisord would then have its own copy of this memory. So supervisord sets the level before it
    forks.
    """
    levels = {"": LEVELS[level]} | dict.fromkeys(_VERBOSE, max(LEVELS[level], logging.INFO))
    for name, number in levels.items():
        logger = logging.getLogger(name)
        if logger.level != number:
            logger.setLevel(number)


def text_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render a record as `time level process: message key=value ...`, on one line."""
    own = _own_fields(record, source)
    fields = _words(own | {name: each for name, each in source.fields.items() if name not in own})
    return f"{_time(record)} {level_name(record)} {source.process}: {_message(record)}{fields}"


def message_line(record: logging.LogRecord) -> str:
    """Render a record as `message key=value ...`, on one line."""
    return f"{_message(record)}{_words(fields_of(record))}"


def json_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render a record as a JSON object.

    A value that is neither a number, a Boolean nor None becomes text.
    """
    standard = {
        "time": _time(record),
        "level": level_name(record),
        "process": source.process,
        "message": _clean(record.getMessage()),
    }
    return json.dumps({**source.fields, **_own_fields(record, source), **standard})


def logstash_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render a record as a JSON object with the standard fields of Logstash.

    As in docker distribution, the level `warn` is called `warning`. The object has a field `type`
    only if the operator has configured one.
    """
    level = level_name(record)
    standard = {
        "@timestamp": _time(record),
        "@version": "1",
        "level": "warning" if level == "warn" else level,
        "message": _clean(record.getMessage()),
        "process": source.process,
    }
    return json.dumps({**source.fields, **_own_fields(record, source), **standard})


FORMATTERS: Final[Mapping[str, LineFormat]] = {
    "text": LineFormat(text_line, frozenset({"time", "level", "process", "message"})),
    "json": LineFormat(json_line, frozenset({"time", "level", "process", "message"})),
    "logstash": LineFormat(
        logstash_line, frozenset({"@timestamp", "@version", "level", "process", "message"})
    ),
}
"""This map contains each log format under docker distribution's name of the format."""


def level_name(record: logging.LogRecord) -> str:
    """Return the name of a record's level."""
    return _NAMES.get(record.levelno, "info")


def fields_of(record: logging.LogRecord) -> dict[str, Value]:
    """Return the fields that the caller passed, with possible credentials removed."""
    fields = {key: _value(key, value) for key, value in vars(record).items() if key not in _OWN}
    if record.exc_info and record.exc_info[1] is not None:
        fields.setdefault("error", _clean(repr(record.exc_info[1])))
        fields["traceback"] = _clean(logging.Formatter().formatException(record.exc_info))
    return fields


def without_credentials(text: str) -> str:
    """Return *text* without the users, passwords and queries of the URLs in it."""
    return _clean(text)


class _Formatter(logging.Formatter):
    """An adapter from a line function, such as `json_line`, to a `logging.Formatter`."""

    def __init__(self, line: _Line, source: LineSource) -> None:
        super().__init__()
        self._line = line
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record, self._source)


def _own_fields(record: logging.LogRecord, source: LineSource) -> dict[str, Value]:
    """Return the fields of the line itself, without the operator's fields."""
    fields = fields_of(record)
    if not source.has_caller:
        return fields
    # The fields `func` and `file` have the same names in logrus.
    place = f"{record.pathname}:{record.lineno}"
    return {**fields, "func": f"{record.name}.{record.funcName}", "file": place}


def _message(record: logging.LogRecord) -> str:
    return _CONTROL.sub(" ", _clean(record.getMessage()))


def _words(fields: Mapping[str, Value]) -> str:
    return "".join(f" {_quoted(name)}={_quoted(value)}" for name, value in fields.items())


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _value(key: str, value: object) -> Value:
    if _SECRET.search(key):
        return "***"
    if value is None or isinstance(value, bool | int | float):
        return value
    return _clean(str(value))


def _clean(text: str) -> str:
    return _QUERY.sub(r"\1", _USERINFO.sub("", text))


def _quoted(value: object) -> str:
    """Return a value as one word; if it contains special characters, return it as a JSON string.

    For example, the format character U+202E makes a terminal show the rest of a line in reverse. A
    client could use such a character in a name to make a log line look like a different line.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)
