"""Reads WWW-Authenticate, and decides which token endpoint may be told a password."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)(?!\s*=)")
# A quoted string, or as much as stands before the next comma: gcr.io leaves quotes out
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))')

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
    """One way to identify oneself; `scheme` is in lower case."""

    scheme: str
    realm: str = ""
    service: str = ""


def parse_challenges(header: str) -> list[Challenge]:
    """Read every challenge of a WWW-Authenticate; what can't be read ends the list."""
    found = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            quoted = re.sub(r"\\(.)", r"\1", parameter[2] or "")
            parameters[parameter[1].lower()] = quoted or parameter[3] or ""
        realm, service = parameters.get("realm", ""), parameters.get("service", "")
        found.append(Challenge(match[1].lower(), realm, service))
    return found


def may_trust(realm: str, upstream_url: str, trusted: str | None) -> bool:
    """Tell whether *realm* belongs to the upstream, so that it may be told its password.

    The operator's *trusted* realm, the upstream's own host on any port, or a known pair; and
    nothing in clear text where the upstream itself is not, but on loopback.
    """
    if trusted is not None and realm == trusted:
        return True
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
