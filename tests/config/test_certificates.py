"""What clients would refuse of a certificate is a warning of `check` and of the start."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

import config
from appliance import authority
from config.certificates import faults
from tests.config.desk import Desk

NOW = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def _made(
    *,
    names: tuple[str, ...] = ("cache.test",),
    begin: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 30 * DAY,
    key: Any = None,
) -> bytes:
    """Return a certificate that signed itself, and its key, in PEM."""
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
        ({"names": ()}, "it has no subjectAltName"),
        ({"begin": NOW - 9 * DAY, "end": NOW - DAY}, "it ended on 2026-11-27"),
        ({"begin": NOW + DAY}, "it is not valid before 2026-11-29 00:00 UTC"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "its key has only 1024 bits"),
    ],
    ids=["no name", "expired", "too early", "weak"],
)
def test_a_fault_is_named_with_its_remedy(how: dict[str, Any], fault: str) -> None:
    """One each, and nothing else."""
    ((found, remedy),) = faults(_made(**how), NOW)

    assert found.startswith(fault)
    assert remedy


def test_a_good_one_has_none() -> None:
    """As `entrepot certs` makes it."""
    assert faults(_made(), NOW) == []
    signer = authority.found(NOW)
    leaf = authority.sign(signer, ["cache.test"], now=NOW, life=DAY)
    assert faults(leaf.pem, NOW) == []


@pytest.mark.parametrize(
    "chain",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["nothing", "no certificate"],
)
def test_what_cannot_be_read_is_a_fault_and_no_traceback(chain: bytes) -> None:
    """HAProxy may see it otherwise; here it is one line."""
    assert [fault for fault, _ in faults(chain, NOW)] == ["it can't be read as X.509"]


def test_names_are_asked_of_a_certificate_without_any() -> None:
    """`doctor` ended in a traceback."""
    with pytest.raises(ValueError, match="subjectAltName"):
        authority.hosts_of(_made(names=()))


def test_the_start_and_check_warn_of_it(tmp_path: Path) -> None:
    """With the setting that names it."""
    path = tmp_path / "certs.pem"
    path.write_bytes(_made(names=()))
    settings = Desk(tmp_path).settings(f"--http.tls.certificate={path}")

    said = [str(each) for each in config.remarks(settings)]

    assert len([each for each in said if "subjectAltName" in each]) == 1
    assert said[0].startswith(f"http.tls.certificate={path}: it has no subjectAltName")
