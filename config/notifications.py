"""Read `notifications.endpoints`, with the defaults of docker distribution."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from entrepot.config import readers, units
from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

ACTIONS: Final = ("pull", "push", "mount", "delete")
"""The actions of events, which `ignore.actions` may list."""

KEYS: Final = (
    *("name", "disabled", "url", "headers", "timeout", "threshold", "backoff"),
    *("ignoredmediatypes", "ignore"),
)
IGNORE_KEYS: Final = ("mediatypes", "actions")

_MOST_ENDPOINTS: Final = 16
_MOST_HEADERS: Final = 64
_MOST_VALUES: Final = 64
_LONGEST_NAME: Final = 128
_LONGEST_VALUE: Final = 8192
_LONGEST_SPAN: Final = 3600.0
_TIMEOUT_S: Final = 1.0
_BACKOFF_S: Final = 1.0
_THRESHOLD: Final = 10
_SHORTEST_S: Final = 0.001
_EXAMPLE: Final = "try [{name: ci, url: https://ci.example.com/event}]"
# RFC 9110, 5.6.2, defines the name of a header as a token.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
# RFC 9110, 5.5, allows no control characters except tab in a header's value.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NANOSECONDS = re.compile(r"-?[0-9]{1,18}")
# The HTTP client sets these headers itself. If a request contained one of them twice, the two
# values could disagree about where the body ends.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "host", "expect"})


@dataclass(frozen=True, slots=True)
class NotificationEndpoint:
    """A `NotificationEndpoint` is a receiver of events; `timeout` and `backoff` are in seconds.

    The appliance sends the endpoint no event about content whose media type is in
    `ignoredmediatypes`, and no event whose action is in `actions`. The key `ignore.mediatypes` adds
    types to `ignoredmediatypes`, and the key `ignore.actions` sets `actions`. `headers` and `url`
    may contain a password.
    """

    name: str
    url: str = field(repr=False)
    disabled: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = _TIMEOUT_S
    threshold: int = _THRESHOLD
    backoff: float = _BACKOFF_S
    ignoredmediatypes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {'disabled' if self.disabled else bare_url(self.url)}"


def endpoints(given: object) -> tuple[NotificationEndpoint, ...]:
    """Read a list of endpoints, or its YAML text. Raises: Unreadable, which lists every problem."""
    found = from_yaml(given, _EXAMPLE)
    if found is None or found == "":
        return ()
    if isinstance(found, (str, Mapping)) or not isinstance(found, Sequence):
        raise Unreadable("not a list of endpoints", _EXAMPLE)
    if len(found) > _MOST_ENDPOINTS:
        raise Unreadable(f"more than {_MOST_ENDPOINTS} endpoints", "remove some")
    read, problems, remedies = [], [], []
    for number, each in enumerate(found):
        try:
            read.append(_endpoint(each))
        except Unreadable as error:
            problems.append(f"endpoint {_name_or_number(each, number)}: {error.message}")
            remedies.append(error.remedy)
    for name, count in Counter(each.name for each in read).items():
        if count > 1:
            problems.append(f"{count} endpoints are named {name}")
            remedies.append("give each endpoint its own name")
    if problems:
        raise Unreadable(", ".join(problems), remedies[0])
    return tuple(read)


def as_list(given: tuple[NotificationEndpoint, ...]) -> list[dict[str, Any]]:
    """Return the endpoints as a list that `endpoints` can read."""
    return [
        asdict(each)
        | {
            "headers": _by_name(each.headers),
            "timeout": f"{each.timeout * 1000:.6f}ms",
            "backoff": f"{each.backoff * 1000:.6f}ms",
            "ignore": {"actions": each.actions},
        }
        for each in given
    ]


def show(given: tuple[NotificationEndpoint, ...]) -> str:
    """Return the endpoints as one readable line without passwords."""
    return "; ".join(map(str, given)) or "none"


def unknown_keys(given: object) -> Iterator[tuple[str, str]]:
    """Yield each key and each action that has no effect in *given*, a valid list of endpoints.

    Each result is a pair of texts: the key or action with the name of its endpoint, and the list of
    the known keys or actions.
    """
    for number, each in enumerate(from_yaml(given, _EXAMPLE) or ()):  # type: ignore[var-annotated, arg-type]  # a list
        if not isinstance(each, Mapping):
            continue
        where = f"endpoint {_name_or_number(each, number)}"
        below = each.get("ignore")
        ignored = below if isinstance(below, Mapping) else {}
        for key in (str(key)[:64] for key in each if key not in (*KEYS, "actions")):
            yield f"{where}: {key}", ", ".join(KEYS)
        for key in (str(key)[:64] for key in ignored if key not in IGNORE_KEYS):
            yield f"{where}: ignore.{key}", ", ".join(IGNORE_KEYS)
        for action in _texts(ignored.get("actions")):
            if action not in ACTIONS:
                yield f"{where}: ignore.actions: {action[:64]}", ", ".join(ACTIONS)


def bare_url(url: str) -> str:
    """Return *url* without login and query, so that a message can show it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _endpoint(given: object) -> NotificationEndpoint:
    """Read one endpoint of notifications. Raises: Unreadable."""
    if isinstance(given, NotificationEndpoint):
        return given
    if not isinstance(given, Mapping):
        raise Unreadable("the endpoint is not a map with name and url", _EXAMPLE)
    ignore = given.get("ignore") or {}
    if not isinstance(ignore, Mapping):
        raise Unreadable("ignore is not a map", "try ignore: {actions: [pull]}")
    is_disabled = readers.is_set(given.get("disabled")) and readers.switch(given["disabled"])
    return NotificationEndpoint(
        name=_field("name", _name, given.get("name")),
        url=_field("url", _maybe_url if is_disabled else _url, given.get("url")),
        disabled=is_disabled,
        headers=_field("headers", _headers, given.get("headers")),
        timeout=_field("timeout", _span, given.get("timeout")) or _TIMEOUT_S,
        threshold=_field("threshold", _count, given.get("threshold")) or _THRESHOLD,
        backoff=_field("backoff", _span, given.get("backoff")) or _BACKOFF_S,
        ignoredmediatypes=(
            *_field("ignoredmediatypes", _texts, given.get("ignoredmediatypes")),
            *_field("ignore.mediatypes", _texts, ignore.get("mediatypes")),
        ),
        actions=_field("ignore.actions", _texts, ignore.get("actions")),
    )


def _field(name: str, read: readers.Reader[Any], given: object) -> Any:  # noqa: ANN401 - any reader
    try:
        return read(given)
    except Unreadable as error:
        raise Unreadable(f"{name} is {error.message}", error.remedy) from error


def _name(given: object) -> str:
    if not readers.is_set(given):
        raise Unreadable("missing", _EXAMPLE)
    name = readers.text(given)
    if len(name) > _LONGEST_NAME:
        raise Unreadable(f"longer than {_LONGEST_NAME} characters", _EXAMPLE)
    return name


def _maybe_url(given: object) -> str:
    return _url(given) if readers.is_set(given) else ""


def _url(given: object) -> str:
    if not readers.is_set(given):
        raise Unreadable("missing", _EXAMPLE)
    url = readers.text(given)
    try:
        parts = urlsplit(url)
        is_valid = _is_request_target(url, parts)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise Unreadable("not an http or https URL", "try https://ci.example.com/event")
    return url


def _is_request_target(url: str, parts: SplitResult) -> bool:
    is_plain = url.isascii() and url.isprintable() and " " not in url
    port = parts.port  # `parts.port` raises ValueError if the port is invalid.
    return is_plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _headers(given: object) -> tuple[tuple[str, str], ...]:
    """Read a map of header names to lists of values."""
    if not readers.is_set(given):
        return ()
    if not isinstance(given, Mapping):
        raise Unreadable("not a map of lists", "try headers: {Authorization: [Bearer TOKEN]}")
    if len(given) > _MOST_HEADERS:
        raise Unreadable(f"a map of more than {_MOST_HEADERS} headers", "remove some")
    return tuple((name, value) for name, values in given.items() for value in _header(name, values))


def _header(name: object, values: object) -> Iterator[str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise Unreadable("not a map of header names", "use letters, digits and dashes in names")
    if name.lower() in _FRAMING:
        raise Unreadable(
            f"refused for {name}, a header that the appliance sets itself", "take it out"
        )
    for value in [values] if isinstance(values, str) else _list_of(values, name):
        if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
            raise Unreadable(f"not a list of short texts for {name}", f"try {name}: [value]")
        if not _VALUE.fullmatch(value):
            raise Unreadable(
                f"refused for {name}: a line break or another control character in its value",
                "write each value on one line",
            )
        yield value


def _list_of(values: object, name: str) -> Sequence[object]:
    if isinstance(values, (list, tuple)) and len(values) <= _MOST_VALUES:
        return values
    raise Unreadable(f"not a list of values for {name}", f"try {name}: [value]")


def _span(given: object) -> float:
    """Read a time span and return it in seconds; 0 means the default.

    A number without a unit is in nanoseconds, as in docker distribution.
    """
    if not readers.is_set(given):
        return 0.0
    text = str(given).strip()[:64]
    seconds = int(text) / 1e9 if _NANOSECONDS.fullmatch(text) else units.span(text)
    if seconds <= 0:
        return 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_SPAN:
        raise Unreadable(f"{text}, not from 1ms to 1h (a plain number is in nanoseconds)", "try 1s")
    return seconds


def _count(given: object) -> int:
    """Read a number; 0 or less means the default."""
    text = str(given).strip() if readers.is_set(given) else "0"
    if re.fullmatch(r"-[0-9]{1,9}", text):
        return 0
    return readers.count(0, 1_000_000, such_as=_THRESHOLD)(text)


def _texts(given: object) -> tuple[str, ...]:
    if not readers.is_set(given):
        return ()
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or len(texts) > _MOST_VALUES:
        raise Unreadable("not a list of texts", "try [one, two]")
    return tuple(readers.text(each) for each in texts)


def _by_name(headers: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    return by_name


def _name_or_number(given: object, number: int) -> str:
    name = given.get("name") if isinstance(given, Mapping) else None
    return name[:64] if isinstance(name, str) and name.isprintable() and name else str(number)
