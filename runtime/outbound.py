"""Read the HTTP proxies for outgoing requests from the variables HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

The URLs of proxies can contain passwords. So `entrepot serve` removes the passwords from the
environment of the programs, and passes the proxies to them in a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.run_names import PROXIES
from entrepot.runtime.small_file import read_small_file

_SCHEMES = ("http", "https")


def proxies(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a map from the scheme of a URL (`http`, `https`) to the URL of its proxy."""
    given = os.environ if environ is None else environ
    found = {scheme: _either(given, f"{scheme}_proxy") for scheme in _SCHEMES}
    return {scheme: url for scheme, url in found.items() if url}


def no_proxy(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the hosts to which requests are sent without a proxy."""
    given = os.environ if environ is None else environ
    return tuple(each.strip() for each in _either(given, "no_proxy").split(",") if each.strip())


def _either(given: Mapping[str, str], name: str) -> str:
    return given.get(name, "") or given.get(name.upper(), "")


@dataclass(frozen=True, slots=True)
class Outbound:
    """An `Outbound` holds the URLs of proxies by scheme and the hosts that need no proxy.

    The URLs can contain passwords.
    """

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    exempt: tuple[str, ...] = ()


def of_environment() -> Outbound:
    """Return the proxies that the environment of this process names."""
    return Outbound(proxies(), no_proxy())


def hand_over(environ: Mapping[str, str], folder: Path) -> None:
    """Write the proxies in *environ* to a file in *folder* with mode 0600; the programs read it.

    Raises: OSError.
    """
    outbound = {"proxies": proxies(environ), "exempt": no_proxy(environ)}
    write_atomically(folder / PROXIES, json.dumps(outbound).encode(), mode=0o600)


def handed_over(folder: Path) -> Outbound:
    """Return the proxies in the file that `hand_over` wrote to *folder*.

    If there is no such file, return the proxies that the environment of this process names.
    """
    try:
        outbound = json.loads(read_small_file(folder / PROXIES))
    except FileNotFoundError:
        return of_environment()
    return Outbound(outbound["proxies"], tuple(outbound["exempt"]))


def without_passwords(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the user and password of each proxy's URL."""
    return {name: _bare(name, value) for name, value in environ.items()}


def _bare(name: str, value: str) -> str:
    if not name.lower().endswith("_proxy") or "@" not in value:
        return value
    scheme, slashes, rest = value.rpartition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
