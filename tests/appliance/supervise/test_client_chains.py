"""Test chains of client certificates if `http.tls.clientcas` names only an intermediate CA."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entrepot.config.http_settings import HttpSettings
from tests.appliance.haproxy import Haproxy, stub_worker
from tests.certificates import Authority

pytestmark = pytest.mark.slow

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Holder:
    """The holder of a certificate: name, key, and certificate in PEM."""

    name: str
    key: ec.EllipticCurvePrivateKey
    pem: bytes

    @property
    def private(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def _signed(
    name: str, issuer: _Holder | None = None, *, ca: bool = True, begin: int = -1
) -> _Holder:
    """Return a holder whose certificate is signed by *issuer*, or self-signed if *issuer* is None.

    The certificate becomes valid *begin* days from now, and expires two days later.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    start = dt.datetime.now(dt.UTC) + begin * _DAY
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer.name if issuer else name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + 2 * _DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return _Holder(name, key, certificate.public_bytes(serialization.Encoding.PEM))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


_ROOT = _signed("root")
_TRUSTED = _signed("intermediate", _ROOT)
_CLIENT = _signed("client", _TRUSTED, ca=False)
_FORGED = _signed("intermediate", _signed("root"))
_UNKNOWN = _signed("unknown", _signed("nowhere"))
_BELOW = _signed("below", _Holder("intermediate", _FORGED.key, b""))


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Haproxy, ssl.SSLContext]]:
    """Return HAProxy, which trusts the intermediate CA only, and a TLS context for clients."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, ExitStack() as stack:
        run = Path(folder)
        authority = Authority(run)
        trusted = run / "trusted.pem"
        trusted.write_bytes(_TRUSTED.pem)
        stack.enter_context(stub_worker(run, 1))
        haproxy = stack.enter_context(
            Haproxy(
                run,
                1,
                certificate=authority.certificate("localhost"),
                http=HttpSettings.from_tree({"tls": {"clientcas": [str(trusted)]}}),
                variables={"ENTREPOT_CLIENT_CAS": str(trusted)},
            )
        )
        yield haproxy, ssl.create_default_context(cafile=str(authority.path))


@pytest.mark.parametrize(
    ("holder", "above", "is_admitted"),
    [
        (_CLIENT, [], True),
        (_CLIENT, [_TRUSTED], True),
        (_CLIENT, [_TRUSTED, _ROOT], True),
        (_signed("client", _TRUSTED, ca=False, begin=-9), [], False),
        (_signed("client", _FORGED, ca=False), [], False),
        (_signed("client", _FORGED, ca=False), [_FORGED], False),
        (_signed("client", _UNKNOWN, ca=False), [_UNKNOWN], False),
        (_signed("client", _BELOW, ca=False), [_BELOW], False),
        (_signed("client", _CLIENT, ca=False), [_CLIENT], False),
        (_signed("client", ca=False), [], False),
        (_signed("client", _ROOT, ca=False), [_ROOT], False),
    ],
    ids=[
        "alone",
        "with its CA",
        "with its root",
        "expired",
        "of a CA of the same name",
        "with a CA of the same name",
        "of an unknown CA",
        "of a CA with a forged signature",
        "issued by a client",
        "self-signed",
        "of the root",
    ],
)
def test_only_chains_to_the_intermediate_authority_are_admitted(
    site: tuple[Haproxy, ssl.SSLContext],
    tmp_path: Path,
    holder: _Holder,
    above: list[_Holder],
    *,
    is_admitted: bool,
) -> None:
    """An intermediate CA in the CA file is enough, as in Go; chains to other CAs are refused."""
    haproxy, context = site
    shown = tmp_path / "client.pem"
    shown.write_bytes(holder.pem + b"".join(each.pem for each in above) + holder.private)
    context.load_cert_chain(shown)
    received = b""
    try:
        with (
            socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            wire.sendall(b"HEAD /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = wire.recv(65536)
    except (ssl.SSLError, ConnectionError):
        assert not is_admitted

    assert received.startswith(b"HTTP/1.1 200") is is_admitted
