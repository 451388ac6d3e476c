"""Define the formats of the access log and of the events file: each line is one JSON object.

HAProxy writes the access log, one line for each response. `log-format` in haproxy.cfg defines the
fields, and a test compares it with AccessLine. If an endpoint for notifications is configured, log
lines have more fields, which only the module `request_line` parses. Most lines differ from an
earlier line only in their times, so AccessLog parses the rest of such lines only once.

The processes of the appliance write the events file, one line for each event that is not a response
to a client.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

from entrepot.datastore.errors import InvalidLine

_MANIFESTS = ("manifest", "index")
_READ = (200, 206, 304)
_REDIRECTED = 307
_WRITTEN = 201
_USES = frozenset(
    [("GET", "blob", status) for status in (*_READ, _REDIRECTED)]
    + [
        (method, kind, status)
        for method in ("GET", "HEAD")
        for kind in _MANIFESTS
        for status in _READ
    ]
    + [("PUT", kind, _WRITTEN) for kind in _MANIFESTS]
    + [(method, kind, _WRITTEN) for method in ("PUT", "POST") for kind in ("blob", "upload")]
)

STORAGE_EVENT = "storage"
"""Events with this name report the requests to an object storage.

The field `what` is `request`, `read`, `retry` or `circuit` (`drivers/objects/requests.py`).
"""

ACCESS_DELAY_S = 0.25
"""Without an access log, an access is written to the index at most this many seconds late.

A registry that is embedded in another program has no access log. The processes of such a registry
write accesses to the index themselves.
"""


@dataclass(slots=True)  # PERF: an instance of a frozen class takes three times as long to create.
class AccessLine:
    """An `AccessLine` is one response in the access log.

    `start` is in milliseconds since the UTC epoch, and `duration` is in milliseconds. `bytes` is
    the number of bytes that HAProxy sent, including the headers.

    Other modules depend on the order of the fields, and a line that lacks a field is invalid
    (docs/development.md, "Add a field to the access log").

    The registry worker sends the values of `digest`, `repository`, `kind` and `user` to HAProxy in
    headers of the response. If a header is missing, the field is an empty text. `termination` is
    HAProxy's two-letter session state at disconnection; it is `--` if the response was sent
    completely.
    """

    start: int
    duration: int
    method: str
    status: int
    termination: str
    bytes: int
    digest: str
    repository: str
    kind: str
    cache: str
    user: str
    source: str
    uri: str

    @property
    def end(self) -> float:
        """Return the time at which the response ended, in seconds since the UTC epoch."""
        return (self.start + self.duration) / 1000


_Document = dict[str, str | int | float]
_Values = tuple[Any, ...]  # The values of the fields of one line.
FIELDS = tuple(each.name for each in fields(AccessLine))
"""The names of the fields of a log line, in the order of `log-format`."""
_NAMES = FIELDS
_INTEGERS = ("start", "duration", "status", "bytes")
_TYPES = tuple(int if name in _INTEGERS else str for name in _NAMES)
_LARGEST = 2**53  # Above this number, not every integer has an exact float.
_in_order = itemgetter(*_NAMES)
_integers = itemgetter(*(_NAMES.index(name) for name in _INTEGERS))
_decode = json.JSONDecoder().decode  # PERF: json.loads would detect the encoding first.

# If two requests are equal, their lines differ only in the fields before "method".
_START = len('{"start":1790000000000')
_STARTS = re.compile(rb'(?:\{"start":[1-9][0-9]{12})*')
_TIMES = re.compile(
    rb'\{"start":([1-9][0-9]{12}),"duration":(-?[1-9][0-9]{0,14}|0),'
    rb'(?:"id":"[0-9a-f-]{0,36}","port":"[^"]{0,5}",)?(?="method")'
)
_QUOTES = 2 * (len(_NAMES) - 2) + 2 * _TYPES.count(str)
# If a line also has the fields of a RequestLine, this text is within its first 64 bytes.
_ID = b',"id":"'
_ID_WITHIN = 64
_EXTENDED_QUOTES = _QUOTES + 4 * 5  # RequestLine has five more fields after `method`.
KEPT_BYTES = 4 * 1024 * 1024
"""AccessLog remembers lines of about this many bytes in total.

The parsed values of these lines take twice as much memory.
"""

Repeated = tuple[AccessLine, int]
"""A `Repeated` is a line and a count of lines that differ only in start, ID and port.

The line is the latest of the counted lines.
"""


def is_access(method: str, kind: str, status: int) -> bool:
    """Return whether a response is an access, which updates the last use of its content.

    A response counts as an access even if the client did not read it to its end.
    """
    return (method, kind, status) in _USES


def parse(line: bytes) -> AccessLine:
    """Parse one line of the access log. Raises: InvalidLine."""
    return AccessLine(*_checked(_document(line), line))


class AccessLog:
    """An `AccessLog` parses lines as `parse` does, but in large batches.

    Only one thread may use an object of this class. PERF: a line that differs from an earlier line
    only in its start costs half a microsecond.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Values] = {}
        self._kept = 0

    def read(self, lines: Sequence[bytes]) -> tuple[list[Repeated], list[InvalidLine]]:
        """Return a `Repeated` for each group of valid lines, and an error for each invalid line."""
        found, errors = list[Repeated](), list[InvalidLine]()
        for line, count in _gathered(lines):
            try:
                found.append((self._read(line), count))
            except InvalidLine as error:
                errors += [_detached(error)] * count
        return found, errors

    def _read(self, line: bytes) -> AccessLine:
        """Parse a log line; reuse the values of an earlier line that differs only in its times."""
        times = _TIMES.match(line)
        if times is None:
            return parse(line)
        rest = line[times.end() :]
        known = self._known.get(rest)
        if known is not None:
            return AccessLine(int(times[1]), int(times[2]), *known)
        values = _checked(_document(line), line)
        self._keep(rest, values[2:])
        return AccessLine(*values)

    def _keep(self, rest: bytes, values: _Values) -> None:
        """Remember the parsed values of *rest*, the part of a line after its times.

        A line that may have a field twice is not remembered.
        """
        # A line that has each field once has `_QUOTES` or `_EXTENDED_QUOTES` quotes. A line with a
        # repeated field or an escaped quote has another number, or contains \u.
        if rest.count(b'"') not in (_QUOTES, _EXTENDED_QUOTES) or b"\\u" in rest:
            return
        if self._kept > KEPT_BYTES:
            self._known.clear()
            self._kept = 0
        self._known[rest] = values
        self._kept += len(rest)


def _detached(error: InvalidLine) -> InvalidLine:
    """Return *error* without traceback and cause.

    A traceback refers to stack frames, and so to all lines that were read and to the other errors.
    These references form a cycle, so megabytes would stay in memory until the next garbage
    collection.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _gathered(lines: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Group lines that differ only in their start, or only in start, ID and port.

    Return the latest line of each group and the number of lines in the group. If the first line has
    no ID, lines are grouped only if all of them begin like lines of HAProxy. If the first line has
    an ID, each line that does not begin like a line of HAProxy stays ungrouped.
    """
    if lines and _ID in lines[0][:_ID_WITHIN]:
        return _gathered_requests(lines)
    starts = b"".join([line[:_START] for line in lines])
    if len(starts) != _START * len(lines) or not _STARTS.fullmatch(starts):
        return [(line, 1) for line in lines]
    equal = defaultdict[bytes, list[bytes]](list)
    for line in lines:
        equal[line[_START:]].append(line)
    return [(max(each), len(each)) for each in equal.values()]


def _gathered_requests(lines: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Group lines that differ only in start, ID and port.

    Return the latest line of each group and the number of lines in the group.
    """
    equal = defaultdict[tuple[bytes, bytes], list[bytes]](list)
    others = list[tuple[bytes, int]]()
    for line in lines:
        times = _TIMES.match(line)
        if times is None:
            others.append((line, 1))
        else:
            equal[times[2], line[times.end() :]].append(line)
    return [*((max(each), len(each)) for each in equal.values()), *others]


@dataclass(frozen=True, slots=True)
class Event:
    """An `Event` is one line of the events file; `at` is in seconds since the UTC epoch.

    Each event has the following fields:

    download   upstream, repository, digest, bytes (fetched), start (offset in bytes), seconds,
               outcome (stored, unstored, failed, mismatch)
    eviction   digest, kind, size, idle (seconds since the last use), reason
    damaged    digest, size (of the damaged file), found (open, read, commit, scrub, verify)
    quarantine files, bytes (in the quarantine now)
    scrub      files, bytes (re-read)
    upstream   upstream, operation (head, manifest, blob, tags, referrers, token), outcome (ok,
               absent, denied, limited, unavailable), seconds, bytes (announced, if ok)
    breaker    upstream, state (open, closed), reason
    budget     upstream, remaining, limit (of the rate limit, as the upstream reports them)
    storage    what (request, read, retry, circuit), driver, and fields for each `what`
               (datastore/drivers/objects/requests.py)
    limit      limit (readers, bodies, logins, uploads, log, lines, stdout, events), count (of times
               it was reached; with the limit `events`: notifications that could not be queued)
    """

    name: str
    at: float
    fields: dict[str, str | int | float] = field(default_factory=dict)


def write_event(path: Path, event: Event) -> None:
    """Append one line with a single write, so that lines of other processes do not mix with it.

    Raises: OSError.
    """
    line = json.dumps({"event": event.name, "at": event.at, **event.fields}).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def parse_event(line: bytes) -> Event:
    """Parse one line of the events file. Raises: InvalidLine."""
    document = _document(line)
    try:
        name, at = str(document.pop("event")), float(document.pop("at"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _invalid(line, "a field is missing or malformed") from error
    if not math.isfinite(at):
        raise _invalid(line, "a time is out of range")
    return Event(name, at, document)


def _checked(document: _Document, line: bytes) -> _Values:
    """Return the values of AccessLine's fields, in order and with their types.

    Raises: InvalidLine if a value is missing, has the wrong type or is out of range.
    """
    try:
        values: _Values = _in_order(document)
        if tuple(map(type, values)) != _TYPES:
            values = tuple(make(value) for make, value in zip(_TYPES, values, strict=True))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _invalid(line, "a field is missing or malformed") from error
    numbers = _integers(values)
    if max(numbers) > _LARGEST or min(numbers) < -_LARGEST:
        raise _invalid(line, "a number is out of range")
    return values


def _document(line: bytes) -> _Document:
    try:
        document = _decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise _invalid(line, "not JSON") from error
    if not isinstance(document, dict):
        raise _invalid(line, "not a JSON object")
    return document


def _invalid(line: bytes, reason: str) -> InvalidLine:
    return InvalidLine(line[:128].decode("latin-1"), reason)
