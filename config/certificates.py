"""Find faults of the appliance's TLS certificate that HAProxy tolerates but clients reject."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

NO_NAMES: Final = "the certificate has no subjectAltName, and clients ignore its common name"
_LEAST_RSA: Final = 2048  # The smallest accepted number of bits of an RSA key.
_LEAST_EC: Final = 224  # The smallest accepted number of bits of an elliptic-curve key.
_WEAK: Final = frozenset({"md5", "sha1"})
_MAKE: Final = "make a certificate with entrepot certs --host NAME"
_ADD: Final = f"openssl req ... -addext subjectAltName=DNS:NAME, or {_MAKE}"

Fault = tuple[str, str]
"""A pair of texts: the fault of a certificate, and the remedy."""


def faults(chain: bytes, now: dt.datetime) -> list[Fault]:
    """Return the faults of the first certificate in *chain*, the content of a PEM file.

    Clients written in Go (podman, docker, containerd, skopeo) reject certificates with these
    faults. *now* is the current time with its time zone.
    """
    try:
        return list(_faults(x509.load_pem_x509_certificates(chain)[0], now))
    except (ValueError, IndexError, x509.DuplicateExtension):
        return [("the certificate can't be read as X.509", _MAKE)]


def _faults(certificate: x509.Certificate, now: dt.datetime) -> Iterator[Fault]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not names_of(certificate):
        yield NO_NAMES, _ADD
    if end < now:
        yield f"the certificate expired on {end:%Y-%m-%d}", "renew the certificate: entrepot certs"
    if begin > now:
        yield f"the certificate is not valid before {begin:%Y-%m-%d %H:%M} UTC", "correct the clock"
    key, digest = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        least = _LEAST_RSA if isinstance(key, rsa.RSAPublicKey) else _LEAST_EC
        if key.key_size < least:
            yield (
                f"the certificate's key has only {key.key_size} bits",
                f"make a key of {least} bits or more",
            )
    if digest is not None and digest.name in _WEAK:
        yield (
            f"the certificate is signed with {digest.name.upper()}",
            "have the certificate signed with SHA-256",
        )


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the names in the extension subjectAltName, or an empty list without the extension.

    Raises: ValueError if the extension can't be parsed.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in found.value]
