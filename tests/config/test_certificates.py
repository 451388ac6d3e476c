"""Test the warnings of `check` and `serve` about a certificate that clients refuse."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from entrepot import config
from entrepot.appliance import authority
from entrepot.config.certificates import faults
from tests.config.config_folder import ConfigFolder

NOW = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def _certificate(
    *,
    names: tuple[str, ...] = ("cache.test",),
    begin: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 30 * DAY,
    key: Any = None,
) -> bytes:
    """Return a self-signed certificate and its key, in PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cache.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if names:
        found = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(found, critical=False)
    pem: bytes = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem + private


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ({"names": ()}, "the certificate has no subjectAltName"),
        ({"begin": NOW - 9 * DAY, "end": NOW - DAY}, "the certificate expired on 2026-11-27"),
        ({"begin": NOW + DAY}, "the certificate is not valid before 2026-11-29 00:00 UTC"),
        (
            {"key": rsa.generate_private_key(65537, 1024)},
            "the certificate's key has only 1024 bits",
        ),
    ],
    ids=["no name", "expired", "too early", "weak"],
)
def test_a_fault_is_named_with_its_remedy(how: dict[str, Any], fault: str) -> None:
    """Each fault of a certificate has a remedy; each certificate of this test has one fault."""
    ((found, remedy),) = faults(_certificate(**how), NOW)

    assert found.startswith(fault)
    assert remedy


def test_a_valid_certificate_has_no_fault() -> None:
    """A valid certificate has no fault, and neither does a certificate of `entrepot certs`."""
    assert faults(_certificate(), NOW) == []
    signer = authority.create(NOW)
    leaf = authority.sign(signer, ["cache.test"], now=NOW, life=DAY)
    assert faults(leaf.pem, NOW) == []


@pytest.mark.parametrize(
    "chain",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["nothing", "no certificate"],
)
def test_an_unreadable_certificate_is_a_fault(chain: bytes) -> None:
    """A certificate that cannot be read is one fault and no traceback; HAProxy may accept it."""
    assert [fault for fault, _ in faults(chain, NOW)] == ["the certificate can't be read as X.509"]


def test_the_names_of_a_certificate_without_names_are_an_error() -> None:
    """`hosts_of` raises ValueError with the reason for a certificate without names."""
    with pytest.raises(ValueError, match="subjectAltName"):
        authority.hosts_of(_certificate(names=()))


def test_the_warning_names_the_setting(tmp_path: Path) -> None:
    """A warning about a certificate names the setting with the path of the certificate."""
    path = tmp_path / "certs.pem"
    path.write_bytes(_certificate(names=()))
    settings = ConfigFolder(tmp_path).settings(f"--http.tls.certificate={path}")

    lines = [str(each) for each in config.remarks(settings)]

    assert len([each for each in lines if "subjectAltName" in each]) == 1
    assert lines[0].startswith(
        f"http.tls.certificate={path}: the certificate has no subjectAltName"
    )
