"""Define Docker Hub's names: its hosts, its URL, and the prefix of its official images."""

from __future__ import annotations

from typing import Final

from entrepot.runtime.hostnames import is_loopback

HOST: Final = "docker.io"
"""The name of Docker Hub as an upstream."""

ALIASES: Final = frozenset({HOST, "index.docker.io", "registry-1.docker.io"})
"""All names that clients use for Docker Hub."""

OFFICIAL: Final = "library/"
"""The prefix of official images, which clients leave out of the name."""

_URL = "https://registry-1.docker.io"


def full_path(host: str, path: str) -> str:
    """Return the path of a repository on *host*, with the prefix of an official image.

    For example, `alpine` on Docker Hub becomes `library/alpine`.
    """
    return f"{OFFICIAL}{path}" if host == HOST and "/" not in path else path


def default_url(host: str) -> str:
    """Return the URL of the upstream named *host* if the operator configured no URL."""
    return _URL if host == HOST else f"{scheme_of(host)}://{host}"


def scheme_of(host: str) -> str:
    """Return the default scheme of a registry, which may have a port and a path.

    Registries on the same machine rarely have a certificate, so their scheme is http, as in Docker.
    """
    return "http" if is_loopback(host.partition("/")[0]) else "https"
