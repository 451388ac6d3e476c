"""The address that HAProxy listens on, in HAProxy's notation; checked before HAProxy starts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.config.address import Address
from entrepot.config.errors import ConfigError, Problem

_SETTING = "http.addr (REGISTRY_HTTP_ADDR)"
_ALL = ("", "::")
_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there, or choose another port",
    errno.EACCES: "choose a port from 1024 up; for a container, publish it with -p 443:8443",
    errno.EADDRNOTAVAIL: "choose an address of this machine, or :PORT for all addresses",
}


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One socket to listen on."""

    family: socket.AddressFamily
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.family == socket.AF_INET6 else self.host
        return f"{host}:{self.port}"


def bindable(address: Address) -> str:
    """Return HAProxy's form of *address*. An empty host means all addresses, IPv6 if available.

    Raises: ConfigError if its host is unknown, or the process cannot listen there.
    """
    endpoints = _endpoints(address)
    for endpoint in endpoints:
        _try(endpoint, address)
    return ",".join(map(str, endpoints))


def url_of(address: Address, *, tls: bool) -> str:
    """Return the URL by which clients on this machine reach the appliance."""
    host = Address("localhost" if address.host in (*_ALL, "0.0.0.0") else address.host, 0)  # noqa: S104 - it is compared, not bound
    return f"{'https' if tls else 'http'}://{str(host).rpartition(':')[0]}:{address.port}"


def _endpoints(address: Address) -> Sequence[_Endpoint]:
    if address.host in _ALL:
        four = _Endpoint(socket.AF_INET, "0.0.0.0", address.port)  # noqa: S104 - as configured
        six = _Endpoint(socket.AF_INET6, "::", address.port)
        return [four, six] if _has_ipv6() else [four]
    return [_resolved(address)]


def _resolved(address: Address) -> _Endpoint:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _refusal(address, "no such host", "give an address of this machine") from error
    # IPv4 first, as Go's net.Listen in docker distribution does
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return _Endpoint(family, str(where[0]), address.port)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _try(endpoint: _Endpoint, address: Address) -> None:
    with socket.socket(endpoint.family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
            probe.listen()
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "choose another address")
            raise _refusal(address, _reason(error), remedy) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    return (error.strerror or str(error)).lower()


def _refusal(address: Address, message: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(f"{_SETTING}={address}", message, remedy)])
