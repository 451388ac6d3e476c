"""Validate hosts, recognise loopback hosts, and convert hosts to names without colons.

Such a name (`host_port` for `host:port`) is used in paths and image references, where a colon is
not allowed.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# A resolver would parse a name whose last label has this form as an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_LONGEST_NAME = 253
_HIGHEST_PORT = 65535
_BRACKETED = re.compile(r"\[([0-9a-f:.]{2,45})\](?::([0-9]{1,5}))?")
_FOLDED_ADDRESS = re.compile(r"ip6__([0-9a-f]{1,4}(?:_[0-9a-f]{1,4}){7})(?:__([0-9]{1,5}))?")
_FOLDED = re.compile(r"(.+)_([0-9]{1,5})")


# PERF: the results are cached, because most requests name the same few hosts.
@lru_cache(1024)
def fold(host: str) -> str:
    """Return the form of a host for paths on the disk, catalogs and image references.

    The form is in lower case and has neither colons nor brackets: `[2001:db8::1]:5000` becomes
    `ip6__2001_db8_0_0_0_0_0_1__5000`. No valid host contains an underscore, so `unfold` can restore
    the host.
    """
    host = host.lower()
    address = _BRACKETED.fullmatch(host)
    if address is None or not _is_address(address[1], 6):
        return host.replace(":", "_")
    groups = ipaddress.IPv6Address(address[1]).exploded.split(":")
    port = f"__{address[2]}" if address[2] else ""
    return f"ip6__{'_'.join(each.lstrip('0') or '0' for each in groups)}{port}"


@lru_cache(1024)
def unfold(name: str) -> str:
    """Return the host (or `host:port`) for which `fold` returns *name*."""
    name = name.lower()
    address = _FOLDED_ADDRESS.fullmatch(name)
    if address:
        host = f"[{ipaddress.IPv6Address(address[1].replace('_', ':'))}]"
        return f"{host}:{address[2]}" if address[2] else host
    match = _FOLDED.fullmatch(name)
    return f"{match[1]}:{match[2]}" if match else name


@lru_cache(1024)
def is_host(text: str) -> bool:
    """Return whether *text*, in lower case, is a valid host or `host:port`.

    A host is a name as in RFC 1123, 2.1, an IPv4 address, or an IPv6 address in brackets (RFC 3986,
    3.2.2). Hosts in requests must be checked: if the pull secret contains a glob, a client can name
    any host that matches it.
    """
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        return bool(bracket) and _is_address(address, 6) and (not port or _is_port(port))
    name, colon, port = text.partition(":")
    if colon and not _is_port(f":{port}"):
        return False
    if len(name) > _LONGEST_NAME or _NAME.fullmatch(name) is None:
        return False
    return _NUMBER.fullmatch(name.rpartition(".")[2]) is None or _is_address(name, 4)


def is_loopback(host: str) -> bool:
    """Return whether *host*, with or without a port, is a loopback address or name."""
    name = bare(host).lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3, defines this name.
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bare(host: str) -> str:
    """Return *host* without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _is_port(text: str) -> bool:
    return (
        _PORT.fullmatch(text[1:]) is not None and int(text[1:]) <= _HIGHEST_PORT and text[0] == ":"
    )


def _is_address(text: str, version: int) -> bool:
    try:
        return "%" not in text and ipaddress.ip_address(text).version == version
    except ValueError:
        return False
