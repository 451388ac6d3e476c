"""The two lines that processes leave for the logger: HAProxy's, an answer each, and events.

The writer of the first is the `log-format` of haproxy.cfg; a test holds it against AccessLine.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from datastore.errors import InvalidLine


@dataclass(frozen=True, slots=True)
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


_INTEGERS = ("start", "duration", "status", "bytes")
_TEXTS = tuple(each.name for each in fields(AccessLine) if each.name not in _INTEGERS)
_LARGEST = 2**53  # beyond it a float no longer tells one from the next


def parse(line: bytes) -> AccessLine:
    """Read one line of the access log. Raises: InvalidLine."""
    document = _document(line)
    try:
        numbers = {name: int(document[name]) for name in _INTEGERS}
        texts = {name: str(document[name]) for name in _TEXTS}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _invalid(line, "a field is missing or malformed") from error
    if max(numbers.values()) > _LARGEST or min(numbers.values()) < -_LARGEST:
        raise _invalid(line, "a number is out of range")
    return AccessLine(**numbers, **texts)  # type: ignore[arg-type]  # split by name just above


@dataclass(frozen=True, slots=True)
class Event:
    """What no client's line shows, at `at` (s, UTC epoch).

    download   upstream, repository, digest, bytes (fetched), start (resumed from), seconds,
               outcome (stored, unstored, failed, mismatch)
    eviction   digest, kind, size, idle (s since the last use), reason
    upstream   upstream, operation (head, manifest, blob, tags, referrers, token), outcome (ok,
               absent, denied, limited, unavailable), seconds, bytes (announced, of an ok one)
    breaker    upstream, state (open, closed), reason
    budget     upstream, remaining, limit (of the rate, as the upstream says)
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


def _document(line: bytes) -> dict[str, str | int | float]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _invalid(line, "not JSON") from error
    if not isinstance(document, dict):
        raise _invalid(line, "not a JSON object")
    return document


def _invalid(line: bytes, reason: str) -> InvalidLine:
    return InvalidLine(line[:128].decode("latin-1"), reason)
