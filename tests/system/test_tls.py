"""An appliance with a certificate serves TLS and HTTP/2."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.system.appliance import Setup
from tests.system.certificates import Authority
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.registries import Registry
from tests.system.waiting import eventually


@pytest.mark.parametrize("files", ["two files", "one file"])
def test_skopeo_pulls_over_tls(
    start: Start, public: Registry, clients: Clients, tmp_path: Path, files: str
) -> None:
    """Skopeo pulls over TLS, with the key in a separate file or in the certificate's file."""
    public.push("tls/app", "v1", of_size(16 * KB, 600))
    authority = Authority()
    trusting = tmp_path / "trusting"
    trusting.mkdir()
    ca = authority.write(trusting / "ca.crt")
    environment = _certificate(authority, tmp_path / "certs", files)
    context = ssl.create_default_context(cafile=str(ca))
    setup = Setup({"one.test": {"url": public.url}}, environment=environment, tls=context)
    appliance = start(setup)

    image = f"docker://{appliance.http.netloc}/one.test/tls/app:v1"
    inspected = clients.skopeo("inspect", f"--cert-dir={trusting}", image)

    assert inspected.returncode == 0, inspected.stderr
    assert _agreed(appliance.http.port, ca, "h2") == ("h2", "TLS_AES_128_GCM_SHA256")
    assert _agreed(appliance.http.port, ca, "h2", "http/1.1")[0] == "http/1.1"


def test_skopeo_needs_a_certificate_of_an_authority_that_the_appliance_trusts_now(
    start: Start, public: Registry, clients: Clients, tmp_path: Path
) -> None:
    """Skopeo needs a client certificate of a CA in `clientcas`; a change of this file applies."""
    public.push("tls/known", "v1", of_size(16 * KB, 601))
    authority, known, other = Authority(), Authority("known clients"), Authority("other clients")
    trusted = tmp_path / "clients.pem"
    known.write(trusted)
    without, trusting = tmp_path / "without", tmp_path / "trusting"
    for folder in (without, trusting):
        folder.mkdir()
        authority.write(folder / "ca.crt")
    client = known.issue("client.test")
    (trusting / "client.cert").write_bytes(client.pem())
    (trusting / "client.key").write_bytes(client.key_pem())
    context = ssl.create_default_context(cafile=str(trusting / "ca.crt"))
    context.load_cert_chain(trusting / "client.cert", trusting / "client.key")
    environment = _certificate(authority, tmp_path / "certs", "two files")
    environment["REGISTRY_HTTP_TLS_CLIENTCAS"] = f"[{trusted}]"
    setup = Setup({"one.test": {"url": public.url}}, environment=environment, tls=context)
    appliance = start(setup)
    image = f"docker://{appliance.http.netloc}/one.test/tls/known:v1"

    def inspect(folder: Path) -> subprocess.CompletedProcess[str]:
        return clients.skopeo("inspect", f"--cert-dir={folder}", image)

    assert inspect(trusting).returncode == 0
    refused = inspect(without)
    assert refused.returncode != 0
    assert "certificate required" in refused.stderr
    other.write(trusted)
    eventually(lambda: "client CAs renewed" in appliance.output(), what="the changed CAs are used")
    assert "unknown certificate authority" in inspect(trusting).stderr


def _certificate(authority: Authority, folder: Path, files: str) -> dict[str, str]:
    certificate, key = authority.issue().write(folder)
    settings = {"REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate)}
    if files == "two files":
        return settings | {"REGISTRY_HTTP_TLS_KEY": str(key)}
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return settings


def _agreed(port: int, ca: Path, *known: str) -> tuple[str | None, str]:
    """Return the protocol and the cipher that the appliance and a client agree on.

    *known* has the protocols that the client offers.
    """
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(list(known))
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wire,
    ):
        return wire.selected_alpn_protocol(), (wire.cipher() or ("",))[0]
