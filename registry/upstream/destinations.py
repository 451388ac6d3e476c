"""Which addresses an upstream's answers may send a request to.

A redirect or a token realm names a host, and the owner of that name decides what it resolves to. So
what is judged is the address that is about to be dialled, never the name: there is no second
look-up, which could give another answer.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from enum import Enum
from urllib.parse import urlsplit

from entrepot.registry.upstream import urls
from entrepot.registry.upstream.upstream_config import UpstreamConfig

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Origin = tuple[str, str, int]
"""Scheme, host name in lower case and port: RFC 6454."""

# Services of clouds that give out credentials, where their address alone does not show it: Alibaba,
# Azure, Oracle, AWS over IPv6. 169.254.169.254 and its neighbours are link-local.
_METADATA = frozenset(
    map(ipaddress.ip_address, ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"])
)
# IPv6 forms that lead to an IPv4 address: network, and how many bits lie behind the address
_EMBEDDING = tuple(
    (ipaddress.IPv6Network(network), behind)
    for network, behind in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped, RFC 4291
        ("::ffff:0:0:0/96", 0),  # IPv4-translated, RFC 2765
        ("64:ff9b::/96", 0),  # NAT64, RFC 6052
        ("2002::/16", 80),  # 6to4, RFC 3056
        ("::/96", 0),  # IPv4-compatible, RFC 4291
    )
)
# All of IPv6 that was ever given out for the internet (IANA). Python takes what it knows nothing of
# for global, site-local addresses too (fec0::/10, RFC 3879).
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
_TEREDO = ipaddress.IPv6Network("2001::/32")


class Reach(Enum):
    """From where an address can be reached."""

    PUBLIC = "public"
    PRIVATE = (
        "private"  # RFC 1918, unique local, carrier-grade NAT, and what is not for the internet
    )
    LOOPBACK = "loopback"
    SPECIAL = "special"  # link-local, multicast, unspecified, reserved, and clouds' metadata


# What an upstream of one reach may lead to besides public addresses
_LEADS_TO = {
    Reach.PUBLIC: frozenset[Reach](),
    Reach.PRIVATE: frozenset({Reach.PRIVATE}),
    Reach.LOOPBACK: frozenset({Reach.PRIVATE, Reach.LOOPBACK}),
    Reach.SPECIAL: frozenset({Reach.SPECIAL}),
}


def reach_of(address: str) -> Reach:
    """Return from where an address can be reached; what is no address is SPECIAL."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Reach.SPECIAL
    inner = _embedded(found)
    reaches = {_reach(each) for each in (inner or (found,))}
    return next(each for each in reversed(Reach) if each in reaches)


def _reach(found: _Address) -> Reach:
    if found.is_loopback:
        return Reach.LOOPBACK
    if found in _METADATA or found.is_link_local or found.is_multicast or found.is_unspecified:
        return Reach.SPECIAL
    if found.is_global and (found.version == 4 or found in _GIVEN_OUT):  # noqa: PLR2004 - IPv4
        return Reach.PUBLIC
    return Reach.SPECIAL if found.is_reserved or _is_this_network(found) else Reach.PRIVATE


def _is_this_network(found: _Address) -> bool:
    """Tell whether it lies in 0.0.0.0/8, which systems take for themselves (RFC 1122, 3.2.1.3)."""
    return found.version == 4 and int(found) >> 24 == 0  # noqa: PLR2004 - IPv4


def _embedded(found: _Address) -> tuple[_Address, ...]:
    """Return the IPv4 addresses that an IPv6 address leads to; none where it is plain."""
    if not isinstance(found, ipaddress.IPv6Address) or found.is_loopback or found.is_unspecified:
        return ()
    if found in _TEREDO:  # RFC 4380: a server, and a client with all bits turned
        return tuple(ipaddress.IPv4Address(each) for each in found.teredo or ())
    for network, behind in _EMBEDDING:
        if found in network:
            return (ipaddress.IPv4Address(int(found) >> behind & 0xFFFFFFFF),)
    return ()


class AddressRefused(Exception):  # noqa: N818 - the class says the fact
    """An answer led to a host whose address may not be dialled for this upstream."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__("it leads to an address that is not public")
        self.host = host
        self.address = address


class Destinations:
    """Judges the addresses of one upstream's requests; safe in any thread.

    The upstream's own origin, and the token service that the operator named, may lie anywhere. All
    other hosts were named by an answer: they may be public, may lie where the upstream lies, or in
    a network that the operator allows (`upstreams.NAME.redirects`). An upstream that was dialled at
    a public address once counts as public from then on.
    """

    def __init__(self, source: UpstreamConfig) -> None:
        named = (source.url, source.realm)
        self._homes = frozenset(origin_of(url) for url in named if url)
        self._own = origin_of(source.url)
        self._allows_any = "any" in source.redirects
        self._networks = tuple(
            ipaddress.ip_network(each) for each in source.redirects if each not in {"any", "public"}
        )
        self._reach: Reach | None = None

    def filtered(self, origin: Origin, addresses: Sequence[str]) -> list[str]:
        """Return those of *addresses* that may be dialled for *origin*.

        Raises: AddressRefused when there is none left.
        """
        if origin in self._homes:
            return list(addresses)
        kept = [each for each in addresses if self._is_allowed(each)]
        if addresses and not kept:
            raise AddressRefused(origin[1], addresses[0])
        return kept

    def dialled(self, origin: Origin, address: str) -> None:
        """Note where a connection went, and judge it once more. Raises: AddressRefused."""
        if origin == self._own:
            if self._reach is not Reach.PUBLIC:
                self._reach = reach_of(address)
            return
        self.filtered(origin, [address])

    def check_by_name(self, url: str) -> None:
        """Judge a URL that a proxy will resolve, by the address in it if there is one.

        A URL of which another parser reads another host is refused: `127%2e0.0.1` would be an
        address where it is sent. Raises: AddressRefused, ValueError.
        """
        origin = origin_of(url)
        if origin not in self._homes and urls.origin_of(url) is None:
            raise AddressRefused(origin[1], origin[1])
        address = _literal(origin[1].rstrip("."))
        if address is not None:
            self.filtered(origin, [address])

    def _is_allowed(self, address: str) -> bool:
        if self._allows_any:
            return True
        reach = reach_of(address)
        if reach is Reach.PUBLIC or reach in _LEADS_TO[self._reach or Reach.PUBLIC]:
            return True
        return bool(self._networks) and any(_unwrapped(address) in each for each in self._networks)


def origin_of(url: str) -> Origin:
    """Return a URL's origin. Raises: ValueError."""
    target = urlsplit(url)
    default = 80 if target.scheme == "http" else 443
    return target.scheme, (target.hostname or "").lower(), target.port or default


def _unwrapped(address: str) -> _Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _literal(host: str) -> str | None:
    """Return the address that a host name is, also in the older spellings; None for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        return None
