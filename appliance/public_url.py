"""Find the address by which clients reach the appliance, from command line or settings."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from entrepot.appliance.authority import private_root
from entrepot.config.address import registry_host
from entrepot.config.errors import ConfigError, Problem, Unreadable
from entrepot.config.schema import Settings
from entrepot.runtime.urls import DEFAULT_PORTS


class PublicAddress(NamedTuple):
    """A `PublicAddress` is a host (IPv6 in brackets), a port, and whether clients use TLS."""

    host: str
    port: int
    tls: bool


def address(given: str, settings: Settings) -> PublicAddress:
    """Parse HOST, HOST:PORT or a URL of the appliance.

    If *given* has no scheme, the scheme comes from the settings. If *given* has no port, the port
    is the default of the given scheme, or the port in the settings if there is no scheme.

    Raises: ConfigError if *given* cannot be parsed.
    """
    scheme, _, rest = given.rpartition("://")
    if scheme and scheme not in DEFAULT_PORTS:
        remedy = "try https://registry.example"
        raise ConfigError([Problem(f"--host={given}", "not http or https", remedy)])
    tls = scheme == "https" if scheme else settings.http.tls.certificate is not None
    try:
        netloc = registry_host(rest.rstrip("/"))
    except Unreadable as error:
        raise ConfigError([Problem(f"--host={given}", error.message, error.remedy)]) from error
    host, colon, port = ("", "", "") if netloc.endswith("]") else netloc.rpartition(":")
    if colon:
        return PublicAddress(host, int(port), tls)
    return PublicAddress(netloc, DEFAULT_PORTS[scheme] if scheme else settings.http.addr.port, tls)


def private_authority(path: str | None, settings: Settings) -> str | None:
    """Return in PEM format the private CA that clients must trust; None if the CA is public.

    The CA is read from the file *path*, or from the appliance's certificate if *path* is None.
    Raises: ConfigError.
    """
    return authority_in(path) if path else own_authority(settings)


def own_authority(settings: Settings) -> str | None:
    """Return in PEM format the private CA of the appliance's certificate; None for a public CA.

    Raises: ConfigError.
    """
    source = settings.http.tls.certificate
    return _root_in(source) if source else None


def authority_in(path: str) -> str:
    """Return the CA in the file *path* in PEM format. Raises: ConfigError."""
    root = _root_in(Path(path))
    if root is None:
        message = "the file has no CA: it has no self-signed certificate"
        raise ConfigError([Problem(path, message, "give the file of the root certificate")])
    return root


def _root_in(source: Path) -> str | None:
    try:
        return private_root(source.read_bytes())
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or "").lower() or "no certificate in PEM"
        remedy = "give the CA's certificate: --ca FILE"
        raise ConfigError([Problem(str(source), why, remedy)]) from error
