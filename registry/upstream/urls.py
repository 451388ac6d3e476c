"""Compute the request target and the origin of a URL; a credential is bound to an origin.

The request target is sent byte for byte as it was received (RFC 9110, 10.2.2; RFC 9112, 3.2): a URL
from a redirect may be signed over its bytes. URL parsers change the bytes of a URL: `%3a` becomes
`%3A`, `|`, `{` and `"` are encoded, and an empty query is dropped.

An origin is a scheme, a host and a port (RFC 6454). A credential is bound to the origin that it was
configured for. `Sealed.headers_for` is the only place that adds Authorization to a request. The
check of the origin uses the URL of the request itself, whether that URL came from the
configuration, a redirect, a Link header or a token realm.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import urljoin

from entrepot.runtime.urls import DEFAULT_PORTS

_ABSOLUTE = re.compile(r"https?://[^/?#\\\s]+(?=[/?#]|$)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# Control characters could end the request line or start another header.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_target: ContextVar[str | None] = ContextVar("target", default=None)

_HIGHEST_PORT = 65535
# PERF: the cost is linear, because the expression is matched at one position, and each part ends at
# a character that the part cannot contain. The expression is strict on purpose, because URL parsers
# disagree about backslashes, blanks, userinfo and non-ASCII hosts. In an ambiguous URL, the
# compared host could differ from the dialled host.
_AUTHORITY = re.compile(
    r"(https?)://(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_][a-z0-9._-]{0,252}))(?::([0-9]{0,5}))?(?=[/?#]|$)",
    re.IGNORECASE | re.ASCII,
)
_BLANK = re.compile(r"[\x00-\x20\x7f]")


def split_target(url: str) -> tuple[str, str]:
    """Return the origin and the target of a URL; the target keeps its bytes (as Latin-1).

    A blank in the target becomes `%20`, because a blank cannot be sent; the fragment is removed.
    Raises: ValueError if *url* is not an HTTP URL.
    """
    match = _ABSOLUTE.match(url)
    if match is None or _CONTROL.search(url):
        raise ValueError("not an HTTP URL")
    target = url[match.end() :].partition("#")[0].replace(" ", "%20")
    return match[0], target if target.startswith("/") else f"/{target}"


def resolve_location(base: str, location: str) -> str:
    """Return the absolute URL of a Location header; keep its bytes, except for a relative path.

    Raises: ValueError, also for control characters, which some URL parsers remove silently.
    """
    if _CONTROL.search(location):
        raise ValueError("the URL contains a control character")
    location = location.strip(" ")
    if _SCHEME.match(location):
        if location.lower().startswith("http") and not _ABSOLUTE.match(location):
            raise ValueError("not an HTTP URL")
        return location
    origin = split_target(base)[0]
    if location.startswith("//"):
        return f"{origin.partition(':')[0]}:{location}"
    return f"{origin}{location}" if location.startswith("/") else urljoin(base, location)


@contextmanager
def sending(target: str) -> Iterator[None]:
    """Let the requests of this thread use *target* instead of the target that urllib3 computes."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def as_written(url: str) -> str:
    """Return the target for the current request; *url* is the target that urllib3 would send.

    urllib3 was called with a URL that has no path, so the path of *url* is `/`. For a request over
    a proxy, *url* and the result are absolute.
    """
    target = _target.get()
    return url if target is None else f"{url.removesuffix('/')}{target}"


@dataclass(frozen=True, slots=True)
class Origin:
    """An `Origin` is a scheme, a host in canonical spelling, and a port."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin | None:
    """Return the origin of a URL, or None if two URL parsers could disagree about it.

    Callers must treat None as different from every origin. A trailing dot of a host is kept, so
    `quay.io.` and `quay.io` are different hosts.
    """
    match = _AUTHORITY.match(url)
    if match is None or _BLANK.search(url):
        return None
    scheme, address, name, port = match.groups()
    host = (name or _address(address)).lower()
    number = int(port) if port else DEFAULT_PORTS[scheme.lower()]
    if not host or not 0 < number <= _HIGHEST_PORT:
        return None
    return Origin(scheme.lower(), host, number)


def _address(text: str) -> str:
    """Return an IPv6 address in its canonical spelling (RFC 5952), or an empty text."""
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A `Sealed` is an Authorization that is sent to `origin` only."""

    origin: Origin
    authorization: str = field(repr=False)

    def headers_for(self, url: str) -> dict[str, str]:
        """Return the Authorization header if *url* has the origin `origin`, else no header."""
        return {"Authorization": self.authorization} if origin_of(url) == self.origin else {}


def sealed(url: str, authorization: str | None) -> Sealed | None:
    """Bind *authorization* to the origin of *url*.

    Return None if *url* has no origin, or if *authorization* is missing.
    """
    origin = origin_of(url)
    return Sealed(origin, authorization) if origin and authorization else None
