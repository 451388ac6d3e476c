"""Define Docker Hub's names: its hosts, its URL, and the prefix of its official images."""

from __future__ import annotations

from typing import Final

from entrepot.runtime.hostnames import is_loopback

HOST: Final = "docker.io"
"""As an upstream, Docker Hub has this name."""

ALIASES: Final = frozenset({HOST, "index.docker.io", "registry-1.docker.io"})
"""These are all names that clients use for Docker Hub."""

OFFICIAL: Final = "library/"
"""The names of official images have this prefix, which clients omit."""

_URL = "https://registry-1.docker.io"


def full_path(host: str, path: str) -> str:
    """Return the path of a repository on *host*; an official image gets its prefix.

    For example, `alpine` on Docker Hub becomes `library/alpine`.
    """
    return f"{OFFICIAL}{path}" if host == HOST and "/" not in path else path


def default_url(host: str) -> str:
    """Return the URL of the upstream named *host* if the operator configured no URL."""
    return _URL if host == HOST else f"{scheme_of(host)}://{host}"


def scheme_of(host: str) -> str:
    """Return the default scheme of the registry *host*, a host with an optional port and path.

    Registries on the same machine rarely have a certificate, so their scheme is http, as in Docker.
    """
    return "http" if is_loopback(host.partition("/")[0]) else "https"
