"""This package is the HTTP registry: `api` (server), `pullthrough` (cache), `upstream` (client).

- `app` assembles the application; `__main__` starts the worker processes.
- `auth` checks users and rights; `routing` maps names to repositories; `push` handles pushes.
- `download` fetches blobs from upstreams; `server` runs gunicorn and serves connections.
- Programs that embed the registry use `library`; `errors` and `events` define exceptions and
  events.

This package exports the names below as the API for programs that embed the registry. Python loads
the module that defines a name when a program first uses the name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrepot.registry.auth.htpasswd import Htpasswd as Htpasswd
    from entrepot.registry.auth.identity import Authenticator as Authenticator
    from entrepot.registry.auth.identity import Identity as Identity
    from entrepot.registry.auth.password_cache import PasswordCache as PasswordCache
    from entrepot.registry.auth.rules import AccessGrant as AccessGrant
    from entrepot.registry.errors import Refused as Refused
    from entrepot.registry.library.application import Application as Application
    from entrepot.registry.library.application import create_app as create_app
    from entrepot.registry.library.application import serve as serve
    from entrepot.registry.middleware import RepositoryMiddleware as RepositoryMiddleware
    from entrepot.registry.middleware import RepositoryRequest as RepositoryRequest
    from entrepot.registry.upstream.upstream_config import UpstreamConfig as UpstreamConfig

_FROM = {
    "Application": "entrepot.registry.library.application",
    "Authenticator": "entrepot.registry.auth.identity",
    "Htpasswd": "entrepot.registry.auth.htpasswd",
    "Identity": "entrepot.registry.auth.identity",
    "AccessGrant": "entrepot.registry.auth.rules",
    "UpstreamConfig": "entrepot.registry.upstream.upstream_config",
    "Refused": "entrepot.registry.errors",
    "RepositoryMiddleware": "entrepot.registry.middleware",
    "RepositoryRequest": "entrepot.registry.middleware",
    "PasswordCache": "entrepot.registry.auth.password_cache",
    "create_app": "entrepot.registry.library.application",
    "serve": "entrepot.registry.library.application",
}


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
