"""Find settings of `http:` that contradict each other or cancel each other's effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from entrepot.config import ciphers
from entrepot.config.address import Address, SocketPath
from entrepot.config.errors import Problem
from entrepot.config.http_settings import HttpSettings
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue

_ADDR: Final = ("http", "addr")
_TLS: Final = ("http", "tls")
_EVERYWHERE: Final = ("", "::", "0.0.0.0")  # noqa: S104 - compared, not bound
_ORIGIN: Final = "access-control-allow-origin"
_METHODS: Final = "access-control-allow-methods"
_WRITING: Final = ("POST", "PUT", "PATCH", "DELETE")
_LONGEST_SOCKET: Final = 95
"""The path of a socket has at most this many bytes: the 107 bytes of unix(7) minus the suffix
that HAProxy appends to the path while it creates the socket."""

Given = Mapping[Key, RawValue]


def contradictions(http: HttpSettings, given: Given) -> list[Problem]:
    """Return a problem for each contradiction in `http:`."""
    return [
        *_address(http, given),
        *_without_certificate(http, given),
        *_no_common_suite(http, given),
        *_debug(http, given),
    ]


def advice(http: HttpSettings, given: Given) -> list[Problem]:
    """Return a warning for each valid combination of settings that is probably a mistake."""
    return [
        *_without_authorities(http, given),
        *_origins(http, given),
        *_no_effect(http, given),
        *_open_debug(http, given),
    ]


def methods_of_every_page(http: HttpSettings) -> list[str]:
    """Return the writing methods (such as DELETE) that CORS headers allow to every web page."""
    headers = {name.lower(): values for name, values in http.headers.items()}
    words = ",".join(headers.get(_METHODS, ())).replace(",", " ").upper().split()
    return [each for each in _WRITING if each in words] if headers.get(_ORIGIN) == ("*",) else []


def _address(http: HttpSettings, given: Given) -> Iterator[Problem]:
    addr = given.get(_ADDR)
    is_path = isinstance(http.addr, SocketPath)
    if http.net == "unix" and not is_path:
        yield given["http", "net"].problem(
            "http.addr is not the absolute path of a socket", "try http.addr: /run/registry.sock"
        )
    elif http.net == "tcp" and is_path and addr is not None:
        yield addr.problem(
            "http.addr is the path of a socket, but http.net is tcp", "set http.net: unix"
        )
    elif is_path and addr is not None and len(str(http.addr).encode()) > _LONGEST_SOCKET:
        yield addr.problem(
            f"the path is longer than {_LONGEST_SOCKET} bytes, the limit of a socket's path",
            "shorten it",
        )


def _without_certificate(http: HttpSettings, given: Given) -> Iterator[Problem]:
    """Yield a problem if client CAs are configured but TLS is off.

    Without TLS, HAProxy would check no client certificate. If `minimumtls` or `ciphersuites` is set
    without a certificate, `advice` only returns a warning.
    """
    authorities = given.get((*_TLS, "clientcas"))
    if http.tls.clientcas and http.tls.certificate is None and authorities is not None:
        yield authorities.objection(
            "without TLS no client certificate is checked", "set http.tls.certificate too"
        )


def _no_common_suite(http: HttpSettings, given: Given) -> Iterator[Problem]:
    suites = given.get((*_TLS, "ciphersuites"))
    named = http.tls.ciphersuites
    is_only_13 = http.tls.minimumtls == "tls1.3"
    if suites is not None and named and is_only_13 and not set(named) & ciphers.TLS13:
        yield suites.problem(
            "no suite of TLS 1.3 is named, but http.tls.minimumtls is tls1.3",
            "take one of the two keys out",
        )


def _debug(http: HttpSettings, given: Given) -> Iterator[Problem]:
    path = http.debug.prometheus.path
    key = given.get(("http", "debug", "prometheus", "path"))
    if key is not None and path.startswith("/debug/"):
        yield key.problem("/debug/ belongs to other pages", "try /metrics")
    addr = given.get(("http", "debug", "addr"))
    if addr is not None and http.debug.addr is not None and _overlap(http.debug.addr, http.addr):
        yield addr.problem("http.addr has the same port", "choose another port")


def _overlap(one: Address, other: Address | SocketPath) -> bool:
    """Return whether two addresses have the same port and a host in common."""
    hosts = {one.host, other.host}
    return one.port == other.port and (len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE))


def _without_authorities(http: HttpSettings, given: Given) -> Iterator[Problem]:
    auth = given.get((*_TLS, "clientauth"))
    is_usual = http.tls.clientauth == HttpSettings().tls.clientauth
    if auth is not None and not is_usual and not http.tls.clientcas:
        yield auth.problem("the key has no effect: http.tls.clientcas is not set", "set it too")


def _origins(http: HttpSettings, given: Given) -> Iterator[Problem]:
    headers = given.get(("http", "headers"))
    for name, values in http.headers.items():
        if headers is not None and name.lower() == _ORIGIN and len(values) > 1:
            message = f"browsers accept no {name} with several values"
            yield headers.objection(message, "write one origin, or '*'")


def _no_effect(http: HttpSettings, given: Given) -> Iterator[Problem]:
    usual = HttpSettings().tls
    for name in ("minimumtls", "ciphersuites") if http.tls.certificate is None else ():
        each = given.get((*_TLS, name))
        if each is not None and getattr(http.tls, name) != getattr(usual, name):
            yield each.problem("the key has no effect: there is no certificate", "set one too")
    prefix = given.get(("http", "prefix"))
    ends = http.host is None or http.prefix == "/" or http.host.endswith(http.prefix)
    if prefix is not None and not ends:
        yield prefix.problem(
            "Location begins with http.host, which does not end with http.prefix",
            "add the prefix to http.host if the proxy in front passes the prefix on",
        )
    relative = given.get(("http", "relativeurls"))
    if relative is not None and http.host is not None and http.relativeurls:
        yield relative.problem(
            "the key has no effect: http.host is set, so URLs are absolute",
            "take one of the two keys out",
        )


def _open_debug(http: HttpSettings, given: Given) -> Iterator[Problem]:
    addr = given.get(("http", "debug", "addr"))
    if addr is not None and http.debug.addr is not None and not http.debug.addr.is_loopback:
        yield addr.problem(
            "the debug address needs no login, and other machines can reach it",
            "try 127.0.0.1:5001",
        )
