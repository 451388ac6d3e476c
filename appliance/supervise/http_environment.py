"""Compute the variables of haproxy.cfg for the settings of `http:`.

A setting with its default value needs no variable, because haproxy.cfg contains the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from entrepot.config import ciphers
from entrepot.config.http_settings import HttpSettings, TlsSettings

_NONE: Final = "none"
_ROOT: Final = "/"
_ORIGIN: Final = "access-control-allow-origin"
_METHODS: Final = "access-control-allow-methods"
_ANY: Final = "*"
_OLD: Final = ("tls1.0", "tls1.1")
_CLIENT_AUTH: Final = {
    "request-client-cert": ("optional", "no"),
    "require-any-client-cert": ("required", "no"),
    "verify-client-cert-if-given": ("optional", "yes"),
    "require-and-verify-client-cert": ("required", "yes"),
}


def http_variables(http: HttpSettings) -> dict[str, str]:
    """Return the variables for the settings of `http:`; most default values have no variable.

    The variables for the address, the certificate and the client CAs are not included, because
    their values are known only when `serve` starts.
    """
    return {f"ENTREPOT_{name}": value for name, value in _all(http)}


def _all(http: HttpSettings) -> Iterator[tuple[str, str]]:
    if http.net == "unix":
        yield "LISTENER", "unix"
    yield from _tls(http.tls)
    if http.http2.disabled:
        yield "ALPN", "http/1.1"
    yield from _urls(http)
    yield from _headers(http)
    if http.debug.addr is not None and http.debug.prometheus.enabled:
        yield "DEBUG_METRICS", http.debug.prometheus.path


def _tls(tls: TlsSettings) -> Iterator[tuple[str, str]]:
    oldest = "tls1.3" if ciphers.has_only_tls13(tls.ciphersuites) else tls.minimumtls
    yield "TLS_MIN", ciphers.VERSIONS[oldest]
    older = [ciphers.OLDER[each] for each in tls.ciphersuites if each in ciphers.OLDER]
    # OpenSSL permits SHA-1 signatures, which TLS 1.0 and 1.1 need, only at security level 0.
    level = ["@SECLEVEL=0"] if oldest in _OLD else []
    if older or level:
        yield "CIPHERS", ":".join([*(older or ciphers.DEFAULT), *level])
    newer = [each for each in tls.ciphersuites if each in ciphers.TLS13]
    if newer:
        yield "CIPHERSUITES", ":".join(newer)
    if tls.clientcas:
        certificate, check = _CLIENT_AUTH[tls.clientauth]
        yield "CLIENT_CERT", certificate
        yield "CLIENT_CHECK", check


def _urls(http: HttpSettings) -> Iterator[tuple[str, str]]:
    if http.prefix != _ROOT:
        yield "PREFIX", http.prefix
    if http.host is not None:
        yield "URLS", http.host
    elif not http.relativeurls:
        yield "URLS", "request"


def _headers(http: HttpSettings) -> Iterator[tuple[str, str]]:
    for number, (name, values) in enumerate(http.headers.items(), start=1):
        yield f"HEADER{number}", name
        yield f"HEADER{number}_VALUE", ", ".join(values).replace("%", "%%")
    by_name = {name.lower(): values for name, values in http.headers.items()}
    if origin := by_name.get(_ORIGIN, ())[:1]:
        yield "ORIGIN", "any" if origin[0] == _ANY else origin[0]
        words = ",".join(by_name.get(_METHODS, ())).replace(",", " ").split()
        yield "METHODS", " ".join(filter(str.isalpha, words)).upper() or "GET"
