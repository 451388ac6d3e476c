"""The two lines that processes leave for the logger: HAProxy's, an answer each, and events.

The writer of the first is the `log-format` of haproxy.cfg; a test holds it against AccessLine.
There are many of those, and most say what one before them said: AccessLog reads them together.
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
_WRITTEN = 201
_USES = frozenset(
    [("GET", "blob", status) for status in _READ]
    + [
        (method, kind, status)
        for method in ("GET", "HEAD")
        for kind in _MANIFESTS
        for status in _READ
    ]
    + [("PUT", kind, _WRITTEN) for kind in _MANIFESTS]
    + [(method, kind, _WRITTEN) for method in ("PUT", "POST") for kind in ("blob", "upload")]
)

ACCESS_DELAY_S = 0.25
"""How long, in s, a process of its own may keep a use to itself until the index knows of it."""


@dataclass(slots=True)  # PERF: to make a frozen one takes three times as long
class AccessLine:
    """One answer: `start` in ms, UTC epoch, `duration` in ms, `bytes` sent with the headers.

    What the worker knows of an answer (digest, repository, kind, user) reaches HAProxy in
    headers; a text that nobody set is empty. `termination` is HAProxy's two letters, `--` for an
    answer that ended well.
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
        """When the answer ended, in s, UTC epoch."""
        return (self.start + self.duration) / 1000


_Document = dict[str, str | int | float]
_Values = tuple[Any, ...]  # of JSON
_NAMES = tuple(each.name for each in fields(AccessLine))
_INTEGERS = ("start", "duration", "status", "bytes")
_TYPES = tuple(int if name in _INTEGERS else str for name in _NAMES)
_LARGEST = 2**53  # beyond it a float no longer tells one from the next
_in_order = itemgetter(*_NAMES)
_integers = itemgetter(*(_NAMES.index(name) for name in _INTEGERS))
_decode = json.JSONDecoder().decode  # PERF: json.loads looks for other encodings first

# What a line says before its "method" is all that tells it from others of the same request.
_START = len('{"start":1790000000000')
_STARTS = re.compile(rb'(?:\{"start":[1-9][0-9]{12})*')
_TIMES = re.compile(rb'\{"start":([1-9][0-9]{12}),"duration":(-?[1-9][0-9]{0,14}|0),(?="method")')
_QUOTES = 2 * (len(_NAMES) - 2) + 2 * _TYPES.count(str)
KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of the lines that AccessLog remembers, about; what they say takes twice as much beside."""

Repeated = tuple[AccessLine, int]
"""The latest of some lines that are equal but for their start, and how many there are."""


def is_access(method: str, kind: str, status: int) -> bool:
    """Say whether an answer is a use, whether or not the client stays for it."""
    return (method, kind, status) in _USES


def parse(line: bytes) -> AccessLine:
    """Read one line of the access log. Raises: InvalidLine."""
    return AccessLine(*_checked(_document(line), line))


class AccessLog:
    """Reads lines as `parse` does, by the thousand; for one thread.

    PERF: a line that others are equal to, but for its start, costs half a microsecond.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Values] = {}
        self._kept = 0

    def read(self, lines: Sequence[bytes]) -> tuple[list[Repeated], list[InvalidLine]]:
        """Return what *lines* say, in the order in which it was first said, and what is no line."""
        found, errors = list[Repeated](), list[InvalidLine]()
        for line, count in _gathered(lines):
            try:
                found.append((self._read(line), count))
            except InvalidLine as error:
                errors += [_detached(error)] * count
        return found, errors

    def _read(self, line: bytes) -> AccessLine:
        """Read the values after the times only if no line before had the same."""
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
        """Remember what the *rest* of a line says, if it says each thing once and no time again."""
        # HAProxy escapes every slash, but a name could hide only behind a \u
        if rest.count(b'"') != _QUOTES or b"\\u" in rest:
            return
        if self._kept > KEPT_BYTES:
            self._known.clear()
            self._kept = 0
        self._known[rest] = values
        self._kept += len(rest)


def _detached(error: InvalidLine) -> InvalidLine:
    """Return *error* without traceback and cause.

    Their frames refer to all that was read, and to the error: a cycle that keeps megabytes until a
    late garbage collection.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _gathered(lines: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Return lines with how many are equal to each but for their start, the latest of those.

    Where one does not begin as HAProxy writes it, each stands for itself.
    """
    starts = b"".join([line[:_START] for line in lines])
    if len(starts) != _START * len(lines) or not _STARTS.fullmatch(starts):
        return [(line, 1) for line in lines]
    equal = defaultdict[bytes, list[bytes]](list)
    for line in lines:
        equal[line[_START:]].append(line)
    return [(max(each), len(each)) for each in equal.values()]


@dataclass(frozen=True, slots=True)
class Event:
    """What no client's line shows, at `at` (s, UTC epoch).

    download   upstream, repository, digest, bytes (fetched), start (resumed from), seconds,
               outcome (stored, unstored, failed, mismatch)
    eviction   digest, kind, size, idle (s since the last use), reason
    damaged    digest, size (of the damaged file), found (open, read, commit, scrub, verify)
    quarantine files, bytes (that lie there now)
    scrub      files, bytes (read again)
    upstream   upstream, operation (head, manifest, blob, tags, referrers, token), outcome (ok,
               absent, denied, limited, unavailable), seconds, bytes (announced, of an ok one)
    breaker    upstream, state (open, closed), reason
    budget     upstream, remaining, limit (of the rate, as the upstream says)
    limit      limit (readers, bodies, logins, uploads, log, lines), count (of times it was reached)
    """

    name: str
    at: float
    fields: dict[str, str | int | float] = field(default_factory=dict)


def write_event(path: Path, event: Event) -> None:
    """Append one line, whole, whoever else appends meanwhile. Raises: OSError."""
    line = json.dumps({"event": event.name, "at": event.at, **event.fields}).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def parse_event(line: bytes) -> Event:
    """Read one line of the events file. Raises: InvalidLine."""
    document = _document(line)
    try:
        name, at = str(document.pop("event")), float(document.pop("at"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _invalid(line, "a field is missing or malformed") from error
    if not math.isfinite(at):
        raise _invalid(line, "a time is out of range")
    return Event(name, at, document)


def _checked(document: _Document, line: bytes) -> _Values:
    """Return the values of AccessLine's fields, in their order and of their types."""
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
