"""Log to stdout: one line a record, with a fixed message and fields, as text or JSON.

A caller writes `log.info("blob fetched", extra={"digest": digest, "bytes": size})`. A field must
not have the name of an attribute of LogRecord (`name`, `process`, `message`, `args`, ...).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""These level names are those of docker distribution."""

_NAMES = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(r"password|passwd|secret|token|authorization|cookie", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")
# control characters, line ends, and format characters that change the order of the others
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")
# a URL's user, password and query may contain credentials
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
# PERF: the query is optional, so a match never fails after `://`, and the time is linear
_QUERY = re.compile(r"(://[^\s?]*)(?:\?\S*)?")

# at debug these log whole URLs, or a line for each write to a watched file
_VERBOSE = ("urllib3", "watchdog")

_Line = Callable[[logging.LogRecord, str], str]


def configure(
    level: str,
    formatter: Literal["text", "json"],
    process: str,
    *,
    stream: TextIO | None = None,
    limit: logging.Filter | None = None,
) -> None:
    """Send all log records of this process to *stream*, or stdout; the last call counts.

    *limit* decides which lines are written (runtime/log_limit.py).
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(_Formatter(json_line if formatter == "json" else text_line, process))
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


def text_line(record: logging.LogRecord, process: str) -> str:
    """Render `time level process: message key=value ...`, always as one line."""
    level = _NAMES.get(record.levelno, "info")
    return f"{_time(record)} {level} {process}: {message_line(record)}"


def message_line(record: logging.LogRecord) -> str:
    """Render `message key=value ...`, always as one line."""
    fields = "".join(f" {key}={_quoted(value)}" for key, value in fields_of(record).items())
    return f"{_CONTROL.sub(' ', _clean(record.getMessage()))}{fields}"


def json_line(record: logging.LogRecord, process: str) -> str:
    """Render one JSON object; a field that is neither a number nor a Boolean becomes a string."""
    standard = {
        "time": _time(record),
        "level": _NAMES.get(record.levelno, "info"),
        "process": process,
        "message": _clean(record.getMessage()),
    }
    return json.dumps(fields_of(record) | standard)


def fields_of(record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    """Return the fields that the caller passed, with possible credentials removed."""
    fields = {key: _value(key, value) for key, value in vars(record).items() if key not in _OWN}
    if record.exc_info and record.exc_info[1] is not None:
        fields.setdefault("error", _clean(repr(record.exc_info[1])))
        fields["traceback"] = _clean(logging.Formatter().formatException(record.exc_info))
    return fields


class _Formatter(logging.Formatter):
    """A `_Formatter` adapts `logging.Formatter` to the functions above."""

    def __init__(self, line: _Line, process: str) -> None:
        super().__init__()
        self._line = line
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record, self._process)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _value(key: str, value: object) -> str | int | float | bool | None:
    if _SECRET.search(key):
        return "***"
    if value is None or isinstance(value, bool | int | float):
        return value
    return _clean(str(value))


def _clean(text: str) -> str:
    return _QUERY.sub(r"\1", _USERINFO.sub("", text))


def _quoted(value: object) -> str:
    """Return a value as one word; a text with other than printable characters is escaped.

    Format characters such as U+202E reverse the order in which a terminal shows a line, so that a
    client's name could make it look like another line.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)
