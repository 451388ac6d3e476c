"""List the cipher suites that `http.tls.ciphersuites` may name, and the TLS versions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from entrepot.config import readers
from entrepot.config.errors import Unreadable

VERSIONS: Final = {
    "tls1.0": "TLSv1.0",
    "tls1.1": "TLSv1.1",
    "tls1.2": "TLSv1.2",
    "tls1.3": "TLSv1.3",
}
"""This map translates docker distribution's names of TLS versions to HAProxy's names."""

TLS13: Final = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
"""The cipher suites of TLS 1.3. Go and OpenSSL use the same names for these suites."""

OLDER: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""This map translates Go's names of the cipher suites of TLS 1.0 to 1.2 to OpenSSL's names."""

DEFAULT: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""If `http.tls.ciphersuites` is not set, haproxy.cfg accepts these cipher suites of TLS 1.2."""

_REMOVED: Final = frozenset(
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"}
)


def suites(given: object) -> tuple[str, ...]:
    """Read a list of names of cipher suites. Raises: Unreadable."""
    found = tuple(dict.fromkeys(readers.words(given)))
    for each in found:
        if each in _REMOVED:
            raise Unreadable(f"{each} is insecure, and OpenSSL has no 3DES", "take it out")
        if each not in TLS13 and each not in OLDER:
            near = difflib.get_close_matches(each.upper(), [*OLDER, *TLS13], 1)
            remedy = f"try {near[0]}" if near else "try TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
            raise Unreadable(f"no such cipher suite: {each[:64]!r}", remedy)
    return found


def has_only_tls13(given: Iterable[str]) -> bool:
    """Return whether *given* is not empty and contains only cipher suites of TLS 1.3."""
    named = set(given)
    return bool(named) and named <= TLS13
