"""Read `http.headers`, the headers that every response gets.

A header is rejected if HTTP or the registry protocol uses it, because clients would fail if every
response had the same value. docker distribution accepts such headers and sends them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

MOST: Final = 16
"""This is the largest accepted number of headers. The file haproxy.cfg has this many rules, one
for each header."""

_LONGEST_NAME: Final = 128
_MOST_BYTES: Final = 4096
"""All these headers together have at most this size in bytes. HAProxy reserves room for them in
each response (tune.maxrewrite in haproxy.cfg)."""

_WIDTH: Final = 60  # The width of a column in the output of `entrepot check`.
# RFC 9110, 5.1, allows more characters than this pattern. The characters of this pattern have no
# special meaning in haproxy.cfg.
_TOKEN = re.compile(r"[0-9A-Za-z._-]+", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e\t]+", re.ASCII)  # RFC 9110, 5.5, without obs-text
_OF_CONNECTIONS: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OF_RESPONSES: Final = frozenset(
    {
        "accept-ranges",
        "age",
        "allow",
        "cache-status",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "docker-content-digest",
        "docker-upload-uuid",
        "etag",
        "last-modified",
        "link",
        "location",
        "oci-chunk-min-length",
        "oci-filters-applied",
        "oci-namespace",
        "oci-subject",
        "oci-tag",
        "range",
        "retry-after",
        "www-authenticate",
    }
)
_VERSION: Final = ("docker-distribution-api-version", "registry/2.0")
_EXAMPLE: Final = "try {X-Content-Type-Options: [nosniff]}"

Headers = dict[str, tuple[str, ...]]


def headers(given: object) -> Headers:
    """Read a map of header names to one value or a list of values. Raises: Unreadable."""
    if isinstance(given, str):
        given = from_yaml(given, _EXAMPLE) or {}
    if not isinstance(given, Mapping):
        raise Unreadable("not a map of headers", _EXAMPLE)
    found: Headers = {}
    for name, value in given.items():
        _check_name(str(name), found)
        if values := _values(str(name), value):
            found[str(name)] = values
    found = {name: values for name, values in found.items() if not _is_ours(name, values)}
    if len(found) > MOST:
        raise Unreadable(
            f"more than {MOST} headers", "set the others in a proxy in front of the appliance"
        )
    if sum(len(f"{name}: {', '.join(values)}\r\n") for name, values in found.items()) > _MOST_BYTES:
        raise Unreadable(f"more than {_MOST_BYTES} bytes of headers", "shorten them")
    return found


def show(given: Mapping[str, tuple[str, ...]]) -> str:
    """Return the names of the headers, truncated to the width of a table column.

    Return `none` if there are no headers.
    """
    names = ", ".join(given) or "none"
    return names if len(names) <= _WIDTH else f"{names[:_WIDTH]}... ({len(given)})"


def merged(lower: object, name: str, value: object) -> dict[str, object]:
    """Return the headers of *lower*, a map or its YAML text, with *name* set to *value*.

    A header in *lower* whose name differs only in case is replaced.

    *name* and *value* come from a variable such as
    REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin.
    """
    lower = from_yaml(lower, _EXAMPLE)
    below: Mapping[str, Any] = lower if isinstance(lower, Mapping) else {}
    kept: dict[str, object] = {
        each: values for each, values in below.items() if str(each).lower() != name.lower()
    }
    return kept | {name: value}


def _check_name(name: str, found: Mapping[str, object]) -> None:
    shown, lower = name[:64], name.lower()
    if not _TOKEN.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise Unreadable(f"not the name of a header: {shown!r}", _EXAMPLE)
    if lower in _OF_CONNECTIONS:
        raise Unreadable(f"{shown} belongs to a connection, not to a response", "take it out")
    if lower in _OF_RESPONSES or lower.startswith("x-entrepot-"):
        raise Unreadable(f"{shown} is different in each response", "take it out")
    if any(each.lower() == lower for each in found):
        raise Unreadable(f"{shown} is set twice", "write its values in one list")


def _values(name: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str) and given.strip().startswith("["):
        given = from_yaml(given, _EXAMPLE)
    if given is None or given == "":
        return ()
    values = [given] if isinstance(given, str) else given
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise Unreadable(f"the value of {name[:64]} is not a list", _EXAMPLE)
    return tuple(_value(name, each) for each in values)


def _value(name: str, given: object) -> str:
    text = given.strip(" \t") if isinstance(given, str) else ""
    if not _VALUE.fullmatch(text):
        raise Unreadable(
            f"a value of {name[:64]} is not one line of ASCII text", "write it on one line"
        )
    return text


def _is_ours(name: str, values: tuple[str, ...]) -> bool:
    """Return whether this is the API version header, which the appliance always sends itself.

    Raises: Unreadable if the values differ from the value that the appliance sends.
    """
    ours, value = _VERSION
    if name.lower() != ours:
        return False
    if values != (value,):
        raise Unreadable(f"{name} is always {value}", "take it out")
    return True
