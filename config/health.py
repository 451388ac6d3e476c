"""Read the lists of health checks in `health:`, with docker distribution's keys and defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from entrepot.config import readers, units
from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

INTERVAL_S: Final = 10.0
TIMEOUT_S: Final = 10.0

_MOST: Final = 32
_MOST_HEADERS: Final = 32
_MOST_VALUES: Final = 8
_SHORTEST_S: Final = 0.1
_LONGEST_TIMEOUT_S: Final = 60.0
_LONGEST_URI: Final = 2048
_LONGEST_SHOWN: Final = 256
_THRESHOLD = readers.count(0, 1000, such_as=3)
_STATUS = readers.count(100, 599, such_as=200)
_PORT = readers.count(1, 65535, such_as=6379)
# RFC 9110 defines the syntax of a header's name (5.6.2) and value (5.5). `_VALUE` excludes the
# obsolete characters (obs-text).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e\t]{0,8192}", re.ASCII)
# A check may not configure these headers. The HTTP client sets them itself, because they delimit
# the request or name its target.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "host", "expect"})
_PASSWORD = re.compile(r"//[^/@\s]*@")
_FILE_EXAMPLE: Final = "try [{file: /path/to/file}]"
_HTTP_EXAMPLE: Final = "try [{uri: 'http://localhost:8080/'}]"
_TCP_EXAMPLE: Final = "try [{addr: 'localhost:6379'}]"

Check = TypeVar("Check")


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A `FileCheck` fails while `file` exists; `interval` is the time between checks in seconds."""

    file: str
    interval: float = INTERVAL_S

    def __str__(self) -> str:
        return f"{self.file} every {units.show_span(self.interval)}"


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """An `HttpCheck` sends HEAD requests to `uri` and expects the status `statuscode`.

    An HTTP check fails after `threshold` failed requests in a row. `timeout` and `interval` are in
    seconds. `headers` and `uri` may contain a password.
    """

    uri: str = field(repr=False)
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    statuscode: int = 200
    timeout: float = TIMEOUT_S
    interval: float = INTERVAL_S
    threshold: int = 0

    @property
    def shown_uri(self) -> str:
        """Return `uri` with its password and query masked, truncated to 256 characters."""
        bare, mark, _ = self.uri.partition("#")[0].partition("?")
        return f"{_PASSWORD.sub('//***@', bare)}{mark and '?***'}"[:_LONGEST_SHOWN]

    def __str__(self) -> str:
        return f"{self.shown_uri} {self.statuscode} {_times(self.interval, self.threshold)}"


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A `TcpCheck` fails after `threshold` failed connections to `addr` in a row.

    `timeout` and `interval` are in seconds.
    """

    addr: str
    timeout: float = TIMEOUT_S
    interval: float = INTERVAL_S
    threshold: int = 0

    def __str__(self) -> str:
        return f"{self.addr} {_times(self.interval, self.threshold)}"


KEYS: Final[dict[str, tuple[str, ...]]] = {
    "file": ("file", "interval"),
    "http": ("uri", "headers", "statuscode", "timeout", "interval", "threshold"),
    "tcp": ("addr", "timeout", "interval", "threshold"),
}
"""The keys that an entry of each list of checks may have; other keys have no effect."""


def file_checks(given: object) -> tuple[FileCheck, ...]:
    """Read `health.file`, or the YAML text of its value.

    Raises: Unreadable, which lists every problem.
    """
    return _checks(given, _file_check, _FILE_EXAMPLE)


def http_checks(given: object) -> tuple[HttpCheck, ...]:
    """Read `health.http`, or the YAML text of its value.

    Raises: Unreadable, which lists every problem.
    """
    return _checks(given, _http_check, _HTTP_EXAMPLE)


def tcp_checks(given: object) -> tuple[TcpCheck, ...]:
    """Read `health.tcp`, or the YAML text of its value.

    Raises: Unreadable, which lists every problem.
    """
    return _checks(given, _tcp_check, _TCP_EXAMPLE)


def interval(given: object) -> float:
    """Read the time between two checks and return it in seconds.

    An empty value and 0 mean the default, 10 seconds.

    Raises: Unreadable.
    """
    found = units.span(given) if readers.is_set(given) else 0.0
    if 0 < found < _SHORTEST_S:
        raise Unreadable("a check with an interval below 100ms costs too much", "try 10s")
    return found or INTERVAL_S


def threshold(given: object) -> int:
    """Read the number of failures in a row after which a check fails; 0 is the same as 1.

    Raises: Unreadable.
    """
    return _THRESHOLD(given) if readers.is_set(given) else 0


def show(given: Sequence[FileCheck | HttpCheck | TcpCheck]) -> str:
    """Return the checks as one readable line without passwords."""
    return "; ".join(map(str, given)) or "none"


def unknown_keys(kind: str, given: object) -> Iterator[str]:
    """Yield each key that has no effect in *given*, a valid list of checks.

    *kind* is `file`, `http` or `tcp`.
    """
    entries = from_yaml(given, _FILE_EXAMPLE)
    for each in entries if isinstance(entries, Sequence) else ():
        if isinstance(each, Mapping):
            yield from (str(key)[:64] for key in each if key not in KEYS[kind])


def _checks(
    given: object, read: Callable[[Mapping[str, Any]], Check], example: str
) -> tuple[Check, ...]:
    found = from_yaml(given, _FILE_EXAMPLE)
    if not readers.is_set(found):
        return ()
    if isinstance(found, (str, Mapping)) or not isinstance(found, Sequence):
        raise Unreadable("not a list of checks", example)
    if len(found) > _MOST:
        raise Unreadable(f"more than {_MOST} checks", "remove some")
    checks: list[Check] = []
    problems: list[str] = []
    for number, each in enumerate(found):
        try:
            checks.append(_read(each, read))
        except Unreadable as error:
            problems.append(f"check {number}: {error.message}")
    if problems:
        raise Unreadable(", ".join(problems), example)
    return tuple(checks)


def _read(given: object, read: Callable[[Mapping[str, Any]], Check]) -> Check:
    # If the list is copied from a `Settings` object, its entries are already parsed.
    if isinstance(given, (FileCheck, HttpCheck, TcpCheck)):
        given = {name: getattr(given, name) for name in given.__dataclass_fields__}
    if not isinstance(given, Mapping):
        raise _refused("not a map")
    return read(given)


def _file_check(given: Mapping[str, Any]) -> FileCheck:
    path = _required(given, "file")
    return FileCheck(str(readers.path(path)), interval(given.get("interval")))


def _http_check(given: Mapping[str, Any]) -> HttpCheck:
    status = given.get("statuscode")
    return HttpCheck(
        _uri(_required(given, "uri")),
        _headers(given.get("headers")),
        _STATUS(status) if readers.is_set(status) and str(status) != "0" else 200,
        _timeout(given.get("timeout")),
        interval(given.get("interval")),
        threshold(given.get("threshold")),
    )


def _tcp_check(given: Mapping[str, Any]) -> TcpCheck:
    addr = _required(given, "addr")
    host, _, port = addr.rpartition(":")
    if not host or (":" in host and not host.startswith("[")):
        raise _refused("addr is not HOST:PORT")
    _PORT(port)
    return TcpCheck(
        addr,
        _timeout(given.get("timeout")),
        interval(given.get("interval")),
        threshold(given.get("threshold")),
    )


def _required(given: Mapping[str, Any], name: str) -> str:
    if not readers.is_set(given.get(name)):
        raise _refused(f"{name} is not set")
    return readers.text(given[name])


def _uri(given: str) -> str:
    try:
        parts = urlsplit(given)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in {"http", "https"} or len(given) > _LONGEST_URI:
        raise _refused("uri is not a URL that begins with http:// or https://")
    if not all("!" <= each <= "~" for each in given):
        raise _refused("uri has a character that a URL must escape")
    return given


def _headers(given: object) -> dict[str, tuple[str, ...]]:
    if not readers.is_set(given):
        return {}
    if not isinstance(given, Mapping):
        raise _refused("headers is not a map of lists")
    if len(given) > _MOST_HEADERS:
        raise _refused(f"more than {_MOST_HEADERS} headers")
    return {_header_name(str(name)): _header_values(value) for name, value in given.items()}


def _header_name(given: str) -> str:
    if not _TOKEN.fullmatch(given) or given.lower() in _FRAMING:
        raise _refused(f"not a header that a check can send: {given[:64]!r}")
    return given


def _header_values(given: object) -> tuple[str, ...]:
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, Sequence) or len(values) > _MOST_VALUES:
        raise _refused(f"a header is not a list of at most {_MOST_VALUES} values")
    if not all(isinstance(each, str) and _VALUE.fullmatch(each) for each in values):
        raise _refused("the value of a header is not one line of ASCII text")
    return tuple(values)


def _timeout(given: object) -> float:
    found = units.span(given) if readers.is_set(given) else 0.0
    if found > _LONGEST_TIMEOUT_S:
        raise _refused("a timeout above 60s is too long")
    return found or TIMEOUT_S


def _refused(message: str) -> Unreadable:
    return Unreadable(message, "compare config/example.yml")


def _times(every: float, failures: int) -> str:
    return f"every {units.show_span(every)}, threshold {max(failures, 1)}"
