"""Create a private certificate authority (CA), and sign server certificates with it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.config.certificates import names_of

_LIFE: Final = dt.timedelta(days=3650)
# The validity of a certificate begins this long before its creation, so that clients with a slow
# clock accept a new certificate.
_BACKDATED: Final = dt.timedelta(hours=1)
_NAME: Final = "Entrepot private authority"


@dataclass(frozen=True, slots=True)
class Pair:
    """A `Pair` is a certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Return the certificate in PEM format."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Return the private key in PEM format, without a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def ends(self) -> dt.datetime:
        """Return the end of the certificate's validity, in UTC."""
        return self.certificate.not_valid_after_utc


def create(now: dt.datetime) -> Pair:
    """Create a new CA, which may sign server certificates but no certificates of other CAs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    builder = (
        _builder(name, name, key.public_key())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def sign(authority: Pair, hosts: Sequence[str], *, now: dt.datetime, life: dt.timedelta) -> Pair:
    """Create a server certificate for *hosts* (DNS names or IP addresses), signed by *authority*.

    The certificate is valid for *life*, but never longer than *authority*.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    names = x509.SubjectAlternativeName([_general(each) for each in hosts])
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + life, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(signer, critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def read(certificate: bytes, key: bytes) -> Pair:
    """Parse a certificate and its key from PEM.

    Raises: ValueError if the key does not belong to the certificate, has a passphrase, or is not an
    elliptic-curve key.
    """
    try:
        known = serialization.load_pem_private_key(key, None)
    except TypeError as error:  # The private key has a passphrase.
        raise ValueError(str(error)) from error
    pair = x509.load_pem_x509_certificate(certificate)
    if not isinstance(known, ec.EllipticCurvePrivateKey):
        raise ValueError("the key was not made by entrepot certs")  # noqa: TRY004 - the file has a wrong value
    if pair.public_key() != known.public_key():
        raise ValueError("the key does not belong to the certificate")
    return Pair(pair, known)


def hosts_of(chain: bytes) -> list[str]:
    """Return the names and addresses (subjectAltName) of the first certificate of a PEM file.

    Raises: ValueError if the file has no certificate, or the certificate has no subjectAltName.
    """
    first = x509.load_pem_x509_certificates(chain)[0]
    if not (names := names_of(first)):
        raise ValueError("no subjectAltName")
    return names


def private_root(chain: bytes) -> str | None:
    """Return the self-signed certificate in *chain* (the content of a PEM file) in PEM format.

    Return None if *chain* has no self-signed certificate. The chain of a certificate from a public
    CA usually has no self-signed certificate, because clients already have the root certificate of
    that CA. Private keys in *chain* are ignored. Raises: ValueError.
    """
    for each in x509.load_pem_x509_certificates(chain):
        if _is_self_signed(each):
            return each.public_bytes(serialization.Encoding.PEM).decode()
    return None


def _is_self_signed(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    kinds = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{each: each in allowed for each in kinds})


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
