"""Check the addresses on which HAProxy shall listen, and translate them to HAProxy's notation."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.config.address import Address, SocketPath
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
    """An `_Endpoint` is one IP address and port to listen on."""

    family: socket.AddressFamily
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.family == socket.AF_INET6 else self.host
        return f"{host}:{self.port}"


def bindable(address: Address | SocketPath, setting: str = _SETTING) -> str:
    """Check that this process can listen on *address*, and return it in HAProxy's notation.

    An empty host means all IPv4 addresses, and all IPv6 addresses if IPv6 is available. If
    *address* is a unix socket on which no program listens, the socket is deleted. *setting* is the
    name of the setting in messages.

    Raises: ConfigError if the host is unknown, or if this process cannot listen there.
    """
    if isinstance(address, SocketPath):
        _make_way(Path(address.path))
        return f"unix@{address.path}"
    endpoints = _endpoints(address, setting)
    for endpoint in endpoints:
        _try(endpoint, address, setting)
    return ",".join(map(str, endpoints))


def remove_socket(address: Address | SocketPath) -> None:
    """Delete the unix socket, which HAProxy does not delete when it exits."""
    if isinstance(address, SocketPath):
        with suppress(OSError):
            if stat.S_ISSOCK(Path(address.path).lstat().st_mode):
                Path(address.path).unlink()


def url_of(address: Address | SocketPath, *, tls: bool) -> str:
    """Return the URL by which clients on this machine reach the appliance."""
    if isinstance(address, SocketPath):
        return f"unix:{address.path}"
    host = Address("localhost" if address.host in (*_ALL, "0.0.0.0") else address.host, 0)  # noqa: S104 - it is compared, not bound
    return f"{'https' if tls else 'http'}://{str(host).rpartition(':')[0]}:{address.port}"


def _make_way(path: Path) -> None:
    """Delete the unix socket of an earlier program, as docker distribution does.

    Raises: ConfigError if the path has a file of another type, or a program listens there.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _refusal(path, "a file that is not a socket", "choose another path")
        if _is_live(path):
            raise _refusal(
                path, "another program listens there", "stop that program, or choose another path"
            )
        path.unlink()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise _refusal(path, f"no folder {path.parent}", "create it") from None
    except OSError as error:
        raise _refusal(
            path, _reason(error), "let this user write to the folder of the socket"
        ) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _refusal(path, "permission denied", "let this user write to the folder of the socket")


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError as error:
            return error.errno != errno.ENOENT
    return True


def _endpoints(address: Address, setting: str) -> Sequence[_Endpoint]:
    if address.host in _ALL:
        four = _Endpoint(socket.AF_INET, "0.0.0.0", address.port)  # noqa: S104 - as configured
        six = _Endpoint(socket.AF_INET6, "::", address.port)
        return [four, six] if _has_ipv6() else [four]
    return [_resolved(address, setting)]


def _resolved(address: Address, setting: str) -> _Endpoint:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _refusal(
            address, "no such host", "give an address of this machine", setting
        ) from error
    # If the host has several addresses, prefer IPv4, as docker distribution does (Go's net.Listen).
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return _Endpoint(family, str(where[0]), address.port)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _try(endpoint: _Endpoint, address: Address, setting: str) -> None:
    with socket.socket(endpoint.family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
            probe.listen()
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "choose another address")
            raise _refusal(address, _reason(error), remedy, setting) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    return (error.strerror or str(error)).lower()


def _refusal(address: object, message: str, remedy: str, setting: str = _SETTING) -> ConfigError:
    return ConfigError([Problem(f"{setting}={address}", message, remedy)])
