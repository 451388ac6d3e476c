"""Write log records to stdout: one line for each record, with a fixed message and fields.

`FORMATTERS` has the log formats under the names of docker distribution.

A program logs with `log.info("blob fetched", extra={"digest": digest, "bytes": size})`. A field
must not have the name of an attribute of LogRecord (`name`, `process`, `message`, `args`, ...).
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
"""Docker distribution uses these names of log levels."""

_NAMES = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(r"password|passwd|secret|token|authorization|cookie", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")
# The pattern matches control characters, line ends, and format characters that change the order of
# other characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")
# The user, password and query of a URL may contain credentials.
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
# PERF: the query is optional, so a match never fails after `://`, and the time is linear
_QUERY = re.compile(r"(://[^\s?]*)(?:\?\S*)?")

# At level debug, urllib3 logs whole URLs, and watchdog logs a line for each write to a watched
# file.
_VERBOSE = ("urllib3", "watchdog")

Value = str | int | float | bool | None
"""A `Value` is what a field of a log record may contain."""


@dataclass(frozen=True, slots=True)
class LineSource:
    """A `LineSource` has what all lines of a process share: its name, and the operator's fields.

    `has_caller` states that each line also has the place in the code that logged it.
    """

    process: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    has_caller: bool = False


_Line = Callable[[logging.LogRecord, LineSource], str]


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A `LineFormat` has the function that renders a line, and the names of its standard fields."""

    line: _Line
    standard: frozenset[str]

    def renamed(self, fields: Mapping[str, Value]) -> dict[str, Value]:
        """Return the operator's fields; a field named like a standard field begins with `fields.`.

        The prefix `fields.` is the rule of logrus, the logging library of docker distribution.
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
    """Send all log records of this process to *stream*, or stdout; a later call replaces this.

    *formatter* is a name in `FORMATTERS`. *fields* are added to every line; a field of the line
    itself with the same name takes precedence. *limit* decides which lines are written
    (runtime/log_limit.py).
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
    root.setLevel(LEVELS[level])
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.INFO))
    logging.captureWarnings(capture=True)


def text_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render a record as `time level process: message key=value ...`, always as one line."""
    own = _own_fields(record, source)
    fields = _words(own | {name: each for name, each in source.fields.items() if name not in own})
    return f"{_time(record)} {level_name(record)} {source.process}: {_message(record)}{fields}"


def message_line(record: logging.LogRecord) -> str:
    """Render a record as `message key=value ...`, always as one line."""
    return f"{_message(record)}{_words(fields_of(record))}"


def json_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render one JSON object; a field that is neither a number nor a Boolean becomes a string."""
    standard = {
        "time": _time(record),
        "level": level_name(record),
        "process": source.process,
        "message": _clean(record.getMessage()),
    }
    return json.dumps({**source.fields, **_own_fields(record, source), **standard})


def logstash_line(record: logging.LogRecord, source: LineSource) -> str:
    """Render one JSON object with the standard fields of Logstash, as docker distribution does.

    The name of the level is that of logrus: `warning` instead of `warn`. The JSON object has no
    field `type` if the operator's fields have none.
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
"""The log formats by their names, which are those of docker distribution."""


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
    """Return *text* with the users, passwords and queries of URLs left out."""
    return _clean(text)


class _Formatter(logging.Formatter):
    """A `_Formatter` adapts `logging.Formatter` to the functions above."""

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
    # The fields of the calling code have the names that logrus gives to them.
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
    """Return a value as one word; escape a text with other than printable characters.

    Format characters such as U+202E reverse the order in which a terminal shows a line, so that a
    client's name could make the line look like another line.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)
