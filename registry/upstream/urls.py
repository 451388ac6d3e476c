"""Credentials belong to an origin: scheme, host and port (RFC 6454).

A credential is sealed for the origin that it was configured for. `Sealed.headers_for` is the only
place where an Authorization is attached to a request, and it compares the URL that is about to be
sent, whoever supplied that URL: the configuration, a redirect, a Link or a realm.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import urljoin

_ABSOLUTE = re.compile(r"https?://[^/?#\\\s]+(?=[/?#]|$)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# What could end the request line, or begin another header
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_target: ContextVar[str | None] = ContextVar("target", default=None)


def split_target(url: str) -> tuple[str, str]:
    """Return the origin of a URL and its target, in the bytes (as Latin-1) in which it was written.

    A blank, which cannot be sent, is `%20`; the fragment is left out. Raises: ValueError.
    """
    match = _ABSOLUTE.match(url)
    if match is None or _CONTROL.search(url):
        raise ValueError("not an HTTP URL")
    target = url[match.end() :].partition("#")[0].replace(" ", "%20")
    return match[0], target if target.startswith("/") else f"/{target}"


def resolve_location(base: str, location: str) -> str:
    """Return where a Location leads from *base*; only a relative path is rewritten.

    Raises: ValueError for control characters, which some parsers leave out silently.
    """
    if _CONTROL.search(location):
        raise ValueError("a control character in a URL")
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
    """Let this thread's connection send *target*, instead of what urllib3 makes of a URL."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def as_written(url: str) -> str:
    """Return the target of the request that is sent now; *url* is urllib3's, with an empty path.

    A proxy is sent the absolute form.
    """
    target = _target.get()
    return url if target is None else f"{url.removesuffix('/')}{target}"


_HIGHEST_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}
# PERF: matched at one position, each part ends at a character that it does not contain.
# Narrow on purpose: two parsers of URLs differ about backslashes, blanks, userinfo and non-ASCII
# hosts, and then the host that is compared is not the one that is dialled.
_AUTHORITY = re.compile(
    r"(https?)://(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_][a-z0-9._-]{0,252}))(?::([0-9]{0,5}))?(?=[/?#]|$)",
    re.IGNORECASE | re.ASCII,
)
_BLANK = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a host in its one spelling, and a port."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin | None:
    """Return the origin of a URL; None where two parsers could differ about it.

    None is no origin's equal. A dot at the end of a host stays: `quay.io.` is another host.
    """
    match = _AUTHORITY.match(url)
    if match is None or _BLANK.search(url):
        return None
    scheme, address, name, port = match.groups()
    host = (name or _address(address)).lower()
    number = int(port) if port else _DEFAULT_PORTS[scheme.lower()]
    if not host or not 0 < number <= _HIGHEST_PORT:
        return None
    return Origin(scheme.lower(), host, number)


def _address(text: str) -> str:
    """Write an IPv6 address in its one spelling (RFC 5952); empty where it is none."""
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An Authorization that is sent to `origin` and to no other."""

    origin: Origin
    authorization: str = field(repr=False)

    def headers_for(self, url: str) -> dict[str, str]:
        """Return what a request for *url* carries of it: nothing where *url* leads elsewhere."""
        return {"Authorization": self.authorization} if origin_of(url) == self.origin else {}


def sealed(url: str, authorization: str | None) -> Sealed | None:
    """Seal an Authorization for the origin of *url*; None where there is neither."""
    origin = origin_of(url)
    return Sealed(origin, authorization) if origin and authorization else None
