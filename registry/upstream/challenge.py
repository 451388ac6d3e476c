"""Reads WWW-Authenticate, and decides which token endpoint may be told a password."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.registry.upstream.urls import origin_of

# PERF: each is matched at one position and never looks back, so a header costs what it is long.
# A header comes from a stranger: an expression that tried every split held the process for minutes.
_SEPARATOR = re.compile(r"[\s,]*")
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^",\s]*')  # gcr.io leaves quotes out
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# By the host of the upstream's URL. Only pairs that their owners document or are known to send.
_KNOWN_REALMS = {
    "registry-1.docker.io": "auth.docker.io",
    "index.docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
    "docker.elastic.co": "docker-auth.elastic.co",
    "nvcr.io": "authn.nvidia.com",
    "registry.redhat.io": "sso.redhat.com",
    "registry.connect.redhat.com": "sso.redhat.com",
    "registry.digitalocean.com": "api.digitalocean.com",
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to identify oneself; `scheme` is in lower case.

    `scope` is what a token must permit, several separated by blanks; empty when it is not stated.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(header: str) -> list[Challenge]:
    """Return every challenge of a WWW-Authenticate; what cannot be read ends the list.

    RFC 9110, 11.6.1. The cost is linear in the length of the header.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for name, text in _elements(header):
        if text is None:
            found.append((name, {}))
        elif found:
            found[-1][1].setdefault(name, text)
        else:
            break
    return [
        Challenge(scheme, *(parameters.get(name, "") for name in ("realm", "service", "scope")))
        for scheme, parameters in found
    ]


def _elements(header: str) -> Iterator[tuple[str, str | None]]:
    """Yield the names of schemes, with None, and the parameters, each with its text, in order."""
    position = 0
    while token := _TOKEN.match(header, _skip(_SEPARATOR, header, position)):
        equals = _EQUALS.match(header, token.end())
        if equals is None:
            if token.end() < len(header) and header[token.end()] not in ", \t\r\n":
                return
            yield token[0].lower(), None
            position = token.end()
            continue
        quoted = _QUOTED.match(header, equals.end())
        if quoted:
            yield token[0].lower(), _ESCAPED.sub(r"\1", quoted[1])
            position = quoted.end()
        elif header.startswith('"', equals.end()):
            return
        else:
            position = _skip(_BARE, header, equals.end())
            yield token[0].lower(), header[equals.end() : position]


def _skip(expression: re.Pattern[str], header: str, position: int) -> int:
    """Return where a match of *expression* ends that begins at *position*."""
    match = expression.match(header, position)
    return match.end() if match else position


def may_ask(realm: str, upstream_url: str) -> bool:
    """Return whether an anonymous token may be asked for at *realm*, on whatever host it is.

    The token that comes back is sent to the upstream, so it never travels in clear text where the
    upstream itself does not.
    """
    try:
        there, here = urlsplit(realm), urlsplit(upstream_url)
        other = there.hostname
    except ValueError:
        return False
    if there.scheme not in {"http", "https"} or not other or "@" in there.netloc:
        return False
    return here.scheme != "https" or there.scheme == "https"


def may_trust(realm: str, upstream_url: str, trusted: str | None) -> bool:
    """Tell whether *realm* belongs to the upstream, so that it may be told its password.

    The operator's *trusted* realm, the upstream's own host on any port, or a known pair; and
    nothing in clear text where the upstream itself is not, but on loopback.
    """
    if trusted is not None and realm == trusted:
        return True
    if origin_of(realm) is None:  # another parser could read another host in it
        return False
    try:
        there, here = urlsplit(realm), urlsplit(upstream_url)
        own = (here.hostname or "").lower()
        other = (there.hostname or "").lower()
    except ValueError:
        return False
    if there.scheme not in {"http", "https"} or not other or "@" in there.netloc:
        return False
    if here.scheme == "https" and there.scheme != "https" and not is_loopback(other):
        return False
    return other in (own, _KNOWN_REALMS.get(own))


def is_loopback(hostname: str) -> bool:
    """Tell whether a name or an address is this machine's own."""
    if hostname == "localhost" or hostname.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False
