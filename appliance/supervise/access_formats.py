"""Render lines of the access log for stdout, in Combined Log Format or as JSON (`log.accesslog`).

HAProxy writes the input lines if ENTREPOT_LOG_REQUEST is `on`. Each input line consists of the line
for the log file and a tail with other fields of the request. Responses to the appliance's own
health checks are not printed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from entrepot.datastore.accesslog import FIELDS
from entrepot.runtime.logs import FORMATTERS, Value

Render = Callable[[bytes], bytes]
"""The type of the functions that render complete lines of the access log."""

TAIL_FIELDS: Final = ("protocol", "referer", "agent")
"""The fields of the tail, in order: HTTP version, and the headers Referer and User-Agent."""

# No value in a log line can contain the texts below, because quotes in values are escaped.
_TAIL = b'},"protocol":'
_TAILS = re.compile(re.escape(_TAIL) + rb"[^\n]*")
_METHOD = b',"method":'
_OWN_HEALTH_CHECK = b',"source":"unix","uri":"/healthz?'
# Every log line begins like {"start":1790000000123,"duration":. These slices of the line are the
# seconds, the milliseconds and the text after them.
_SECONDS, _MILLISECONDS, _AFTER_START = slice(9, 19), slice(19, 22), slice(22, 34)
_DURATION = b',"duration":'

_KEPT_LINES = 4096  # The number of cached lines, of about 1 KB each.
_KEPT_TIMES = 64
_PRINTED: Final = (
    *("source", "user", "method", "uri", "protocol", "status", "bytes", "referer", "agent"),
)
_SPACE, _BEYOND_BMP = 0x20, 0x10000
_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def without_tails(lines: bytes) -> bytes:
    """Remove the tails from *lines*, and return the lines as they are written to the log file."""
    return _TAILS.sub(b"}", lines)


def combined_lines(lines: bytes) -> bytes:
    """Render lines in Combined Log Format, with the escapes that docker distribution uses.

    There are two differences to docker distribution's lines. docker distribution prints `-` for
    every user, and this function prints the user's name. docker distribution prints the size of the
    body, and here the size includes the headers.

    PERF: most lines differ from an earlier line only in their times. So the texts before and after
    the time are cached.
    """
    rendered = list[bytes]()
    for line in lines.split(b"\n"):
        if line[_AFTER_START] == _DURATION:
            before, after = _around_time(line[line.find(_METHOD) :])
            if after:
                rendered += (before, _local_time(line[_SECONDS]), after)
    return b"".join(rendered)


def json_lines(fields: Mapping[str, Value]) -> Render:
    """Return a function that adds the standard fields of `log.formatter: json` to each line.

    *fields* are those of the setting `log.fields`. If a line already has a field with the name of
    one of *fields*, the new field gets the prefix `fields.`.
    """
    standard = {"level": "info", "process": "haproxy", "message": "response completed"}
    taken = {*FIELDS, *TAIL_FIELDS}
    renamed = {
        f"fields.{name}" if name in taken else name: value
        for name, value in FORMATTERS["json"].renamed(fields).items()
    }
    middle = json.dumps(standard | renamed)[1:-1].encode()

    def render(lines: bytes) -> bytes:
        rendered = list[bytes]()
        for line in lines.split(b"\n"):
            if line[_AFTER_START] == _DURATION and _OWN_HEALTH_CHECK not in line:
                begin = b'{"time":"%b.%bZ",' % (_utc_time(line[_SECONDS]), line[_MILLISECONDS])
                rendered += (begin, middle, b",", _joined(line[1:]), b"\n")
        return b"".join(rendered)

    return render


def _joined(line: bytes) -> bytes:
    """Return the log line and its tail as one JSON object."""
    return line.replace(_TAIL, b',"protocol":', 1)


@lru_cache(_KEPT_LINES)
def _around_time(rest: bytes) -> tuple[bytes, bytes]:
    """Return the texts before and after the time; both are empty if the line is not printed."""
    each = {} if _OWN_HEALTH_CHECK in rest else _printed(rest)
    if not each:
        return b"", b""
    version = f"HTTP/{each['protocol']}" if each["protocol"] else ""
    request = " ".join(filter(None, (each["method"], each["uri"], version))) or "-"
    user = each["user"].replace(" ", "\\x20") or "-"
    before = f"{each['source']} - {user} ["
    size = f"{each['status']} {each['bytes']}"
    after = f'] "{request}" {size} "{each["referer"]}" "{each["agent"]}"\n'
    return before.encode(), after.encode()


def _printed(rest: bytes) -> dict[str, str]:
    """Return the fields to print, with escapes; return no fields for a malformed line."""
    try:
        given = json.loads((b"{" + _joined(rest[1:])).decode("utf-8", "replace"))
    except ValueError:
        return {}
    return {name: _escaped(str(given.get(name, ""))) for name in _PRINTED}


def _escaped(text: str) -> str:
    """Return *text* with special characters escaped as in docker distribution's access log.

    Docker distribution uses the Go package gorilla/handlers for its access log.
    """
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(map(_escaped_character, text))


def _escaped_character(character: str) -> str:
    if escape := _ESCAPES.get(character):
        return escape
    number = ord(character)
    if character.isprintable():
        return character
    if number < _SPACE:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < _BEYOND_BMP else f"\\U{number:08x}"


@lru_cache(_KEPT_TIMES)
def _local_time(seconds: bytes) -> bytes:
    return time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(int(seconds))).encode()


@lru_cache(_KEPT_TIMES)
def _utc_time(seconds: bytes) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(seconds))).encode()
