"""The HTTP registry: api (HTTP in) -> pullthrough (the algorithm) -> upstream (HTTP out).

What a program needs that embeds it can be imported from here; only then is any of it loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.access import Rule as Rule
    from registry.auth import Authenticator as Authenticator
    from registry.auth import Identity as Identity
    from registry.htpasswd import Htpasswd as Htpasswd
    from registry.library import Application as Application
    from registry.library import create_app as create_app
    from registry.library import serve as serve
    from registry.upstream.source import Source as Source
    from registry.verdicts import Verdicts as Verdicts

_FROM = {
    "Application": "registry.library",
    "Authenticator": "registry.auth",
    "Htpasswd": "registry.htpasswd",
    "Identity": "registry.auth",
    "Rule": "registry.access",
    "Source": "registry.upstream.source",
    "Verdicts": "registry.verdicts",
    "create_app": "registry.library",
    "serve": "registry.library",
}


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
