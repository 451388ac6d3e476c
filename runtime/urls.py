"""Compute the origin and the authority of a URL that urllib parses."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
"""This map contains the default port of each URL scheme (RFC 9110, 4.2)."""


class RawOrigin(NamedTuple):
    """A `RawOrigin` is a scheme, a host in lower case and without brackets, and a port.

    Use it to compare configured URLs and to choose a server. Do not use it for credentials, which
    are bound to the stricter `Origin` of registry/upstream/urls.py.
    """

    scheme: str
    host: str
    port: int


def raw_origin_of(url: str) -> RawOrigin:
    """Return the origin of any URL that urllib parses; any scheme but http has the port 443.

    Raises: ValueError if urllib cannot parse the URL or its port.
    """
    target = urlsplit(url)
    port = target.port or DEFAULT_PORTS.get(target.scheme, DEFAULT_PORTS["https"])
    return RawOrigin(target.scheme, (target.hostname or "").lower(), port)


def authority_of(url: str) -> str:
    """Return the host and, if the URL has one, the port of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
