"""Check the addresses of the hosts that an upstream names in redirects and token realms.

A redirect or a token realm names a host, and the owner of that name decides to which address the
name resolves. Therefore the check applies to the address to which the connection is opened, never
to the name. The name is not looked up a second time after the check, because the second look-up
could return a different address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from enum import Enum

from entrepot.registry.upstream import urls
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.runtime.urls import RawOrigin, raw_origin_of

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# At these addresses, metadata services of clouds (Alibaba, Azure, Oracle, AWS over IPv6) return
# credentials. 169.254.169.254 needs no entry, because `_reach` treats all link-local addresses like
# these.
_METADATA = frozenset(
    map(ipaddress.ip_address, ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"])
)
# Each entry has an IPv6 network whose addresses embed an IPv4 address, and the number of bits after
# the IPv4 address.
_EMBEDDING = tuple(
    (ipaddress.IPv6Network(network), behind)
    for network, behind in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped addresses (RFC 4291)
        ("::ffff:0:0:0/96", 0),  # IPv4-translated addresses (RFC 2765)
        ("64:ff9b::/96", 0),  # NAT64 addresses (RFC 6052)
        ("2002::/16", 80),  # 6to4 addresses (RFC 3056)
        ("::/96", 0),  # IPv4-compatible addresses (RFC 4291)
    )
)
# IANA has assigned this IPv6 unicast space to the internet. An address is treated as public only if
# it is also in this space, because Python's `is_global` is true even for site-local addresses
# (fec0::/10, RFC 3879).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TEREDO = ipaddress.IPv6Network("2001::/32")


class Reach(Enum):
    """A `Reach` is the network from which an address can be reached."""

    PUBLIC = "public"
    # Private addresses are those of RFC 1918, unique local addresses, those of carrier-grade NAT
    # and all others that are neither global nor special.
    PRIVATE = "private"
    LOOPBACK = "loopback"
    # Special addresses are link-local, multicast, unspecified and reserved addresses, and those of
    # the metadata services of clouds.
    SPECIAL = "special"


# This table maps the reach of an upstream's own address to the kinds of addresses to which the
# upstream may redirect, besides public addresses.
_MAY_REACH = {
    Reach.PUBLIC: frozenset[Reach](),
    Reach.PRIVATE: frozenset({Reach.PRIVATE}),
    Reach.LOOPBACK: frozenset({Reach.PRIVATE, Reach.LOOPBACK}),
    Reach.SPECIAL: frozenset({Reach.SPECIAL}),
}


def reach_of(address: str) -> Reach:
    """Return the reach of an address; SPECIAL for a text that is not an address."""
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
    if found.is_global and (found.version == 4 or found in _GLOBAL_UNICAST):  # noqa: PLR2004 - IPv4
        return Reach.PUBLIC
    return Reach.SPECIAL if found.is_reserved or _is_this_network(found) else Reach.PRIVATE


def _is_this_network(found: _Address) -> bool:
    """Return whether an address is in 0.0.0.0/8, which reaches this host (RFC 1122, 3.2.1.3)."""
    return found.version == 4 and int(found) >> 24 == 0  # noqa: PLR2004 - IPv4


def _embedded(found: _Address) -> tuple[_Address, ...]:
    """Return the IPv4 addresses, if any, that an IPv6 address embeds."""
    if not isinstance(found, ipaddress.IPv6Address) or found.is_loopback or found.is_unspecified:
        return ()
    # A Teredo address contains a server's address, and the client's address with inverted bits (RFC
    # 4380).
    if found in _TEREDO:
        return tuple(ipaddress.IPv4Address(each) for each in found.teredo or ())
    for network, behind in _EMBEDDING:
        if found in network:
            return (ipaddress.IPv4Address(int(found) >> behind & 0xFFFFFFFF),)
    return ()


class AddressRefused(Exception):  # noqa: N818 - the name states the fact
    """A response directed a request to an address that is not permitted for this upstream."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__("the upstream's response refers to an address that is not public")
        self.host = host
        self.address = address


class Destinations:
    """A `Destinations` checks the addresses of one upstream's requests, in any thread.

    The upstream's own origin and the configured token realm may have any address. Every other host
    is named by a response of the upstream. The address of such a host is permitted in three cases:
    it is public, it is in a network that the operator permits (`upstreams.NAME.redirects`), or
    `_MAY_REACH` permits it because of the upstream's own address. For example, a private upstream
    may redirect to private addresses. Once a connection to the upstream has used a public address,
    the upstream is treated as public.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        named = (config.url, config.realm)
        self._homes = frozenset(raw_origin_of(url) for url in named if url)
        self._own = raw_origin_of(config.url)
        self._allows_any = "any" in config.redirects
        self._networks = tuple(
            ipaddress.ip_network(each) for each in config.redirects if each not in {"any", "public"}
        )
        self._reach: Reach | None = None

    def permitted(self, origin: RawOrigin, addresses: Sequence[str]) -> list[str]:
        """Return the *addresses* that may be dialled for *origin*.

        Raises: AddressRefused if *addresses* is not empty and none is permitted.
        """
        if origin in self._homes:
            return list(addresses)
        kept = [each for each in addresses if self._is_allowed(each)]
        if addresses and not kept:
            raise AddressRefused(origin.host, addresses[0])
        return kept

    def check_dialled(self, origin: RawOrigin, address: str) -> None:
        """Check the address of an open connection. Raises: AddressRefused.

        The address of the upstream itself is always permitted and sets the upstream's reach.
        """
        if origin == self._own:
            if self._reach is not Reach.PUBLIC:
                self._reach = reach_of(address)
            return
        self.permitted(origin, [address])

    def check_by_name(self, url: str) -> None:
        """Check a URL that is requested over a proxy, which resolves host names itself.

        An address in the URL must be permitted; a host name is always permitted. If two parsers
        could disagree about the URL's host, the URL is rejected. For example, `127%2e0.0.1` is a
        name to this module but could be an address to the proxy. Raises: AddressRefused,
        ValueError.
        """
        origin = raw_origin_of(url)
        if origin not in self._homes and urls.origin_of(url) is None:
            raise AddressRefused(origin.host, origin.host)
        address = _literal(origin.host.rstrip("."))
        if address is not None:
            self.permitted(origin, [address])

    def _is_allowed(self, address: str) -> bool:
        if self._allows_any:
            return True
        reach = reach_of(address)
        if reach is Reach.PUBLIC or reach in _MAY_REACH[self._reach or Reach.PUBLIC]:
            return True
        return bool(self._networks) and any(_unwrapped(address) in each for each in self._networks)


def _unwrapped(address: str) -> _Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _literal(host: str) -> str | None:
    """Return the address that *host* denotes, even in old notations (`127.1`), or None."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        return None
