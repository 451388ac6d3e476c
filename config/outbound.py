"""The proxies on the way out, under the names that every program reads."""

from __future__ import annotations

import os
from collections.abc import Mapping

_SCHEMES = ("http", "https")


def proxies(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the proxy's URL for each scheme that has one."""
    given = os.environ if environ is None else environ
    found = {scheme: _either(given, f"{scheme}_proxy") for scheme in _SCHEMES}
    return {scheme: url for scheme, url in found.items() if url}


def no_proxy(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the hosts that are reached without one."""
    given = os.environ if environ is None else environ
    return tuple(each.strip() for each in _either(given, "no_proxy").split(",") if each.strip())


def _either(given: Mapping[str, str], name: str) -> str:
    return given.get(name, "") or given.get(name.upper(), "")
