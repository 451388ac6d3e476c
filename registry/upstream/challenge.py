"""Parse WWW-Authenticate, and decide to which token endpoints a password may be sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.registry.upstream.urls import origin_of
from entrepot.runtime.hostnames import is_loopback

# PERF: each expression is matched at one position and never backtracks, so the cost is linear in
# the length of the header. Headers of upstreams are untrusted: with an expression that backtracks,
# a malicious header could block the process for minutes.
_SEPARATOR = re.compile(r"[\s,]*")
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^",\s]*')  # gcr.io omits the quotes around values.
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# This table maps the host of an upstream's URL to the host of its token endpoint. It contains only
# token endpoints that the registries document or are known to send.
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
    """A `Challenge` is one challenge of a WWW-Authenticate header.

    `scheme` is the authentication scheme in lower case.

    `scope` lists the permissions that a token must have, separated by blanks; it is empty if the
    upstream sent none.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a WWW-Authenticate header, up to the first syntax error.

    RFC 9110, 11.6.1, defines the syntax. The cost is linear in the length of the header.
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
    """Yield (scheme, None) and (parameter, value) pairs in the order of the header."""
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
    """Return the end of a match of *expression* at *position*, or *position* if there is none."""
    match = expression.match(header, position)
    return match.end() if match else position


def may_ask(realm: str, upstream_url: str) -> bool:
    """Return whether an anonymous token may be requested at *realm*, which may be on any host.

    If the upstream uses https, *realm* must use https too. Otherwise the received token, which is
    later sent to the upstream, could be read by others on the network.
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
    """Return whether *realm* belongs to the upstream, and may receive the upstream's password.

    The realm belongs to the upstream in three cases: it is the operator's *trusted* realm, it is on
    the upstream's own host with any port, or it is a known token endpoint of that host. If the
    upstream uses https, every realm but *trusted* must use https too, except on loopback.
    """
    if trusted is not None and realm == trusted:
        return True
    if origin_of(realm) is None:  # Two URL parsers could disagree about the host.
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
