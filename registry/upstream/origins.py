"""Credentials belong to an origin: scheme, host and port (RFC 6454).

A credential is sealed for the origin that it was configured for. `Sealed.headers_for` is the only
place where an Authorization is attached to a request, and it compares the URL that is about to be
sent, whoever supplied that URL: the configuration, a redirect, a Link or a realm.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

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
