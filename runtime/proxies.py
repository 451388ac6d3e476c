"""Choose the proxy for a URL by the usual rules of HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from entrepot.runtime.hostnames import is_loopback
from entrepot.runtime.urls import raw_origin_of


@dataclass(frozen=True, slots=True)
class Proxies:
    """A `Proxies` holds the proxy for each URL scheme and the rules of NO_PROXY (`exempt`)."""

    by_scheme: Mapping[str, str] = field(default_factory=dict)
    exempt: Sequence[str] = ()

    def choose(self, url: str) -> str | None:
        """Return the URL of the proxy for *url*, or None; a loopback host never has a proxy."""
        target = raw_origin_of(url)
        proxy = self.by_scheme.get(target.scheme)
        # The name `localhost.`, with a trailing dot, names the same host as `localhost`.
        hostname = target.host.rstrip(".")
        if not proxy or is_loopback(hostname):
            return None
        if any(_exempts(rule.strip().lower(), hostname, target.port) for rule in self.exempt):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _exempts(rule: str, hostname: str, port: int) -> bool:
    """Return whether a rule (`*`, a domain, `host:port`, an address, a network) matches a host."""
    if rule == "*":
        return True
    if _is_in(rule, hostname):
        return True
    name, _, rule_port = rule.partition(":")
    if rule_port and rule_port != str(port):
        return False
    name = name.removeprefix("*").lstrip(".")
    return bool(name) and (hostname == name or hostname.endswith(f".{name}"))


def _is_in(rule: str, hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False
