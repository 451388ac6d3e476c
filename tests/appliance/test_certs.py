"""Test `entrepot certs`, which creates a CA and renews the server certificate."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from entrepot import config
from entrepot.appliance import authority
from entrepot.appliance.__main__ import main

HOSTS = ["--host", "cache.test", "--host", "127.0.0.1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> tuple[bytes, bytes]:
    """Run `entrepot certs`, and return the CA and the chain of the certificate."""
    assert main(["certs", "--out", "tls", *words]) == 0
    return Path("tls/ca.pem").read_bytes(), Path("tls/certs/certs.pem").read_bytes()


def leaf(chain: bytes) -> x509.Certificate:
    """Return the server's certificate, which is the first of *chain*."""
    return x509.load_pem_x509_certificates(chain)[0]


@pytest.mark.parametrize("name", ["cache.test", "127.0.0.1"])
def test_a_client_that_trusts_the_ca_trusts_the_server(name: str) -> None:
    """A client that trusts the CA of `entrepot certs` trusts the server by name and by address.

    The client of this test uses OpenSSL's strict checks of certificates.
    """
    run(*HOSTS)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain("tls/certs/certs.pem")
    client = ssl.create_default_context(cafile="tls/ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()
    answering = threading.Thread(target=lambda: server.wrap_socket(there, server_side=True).close())
    answering.start()

    with client.wrap_socket(here, server_hostname=name) as wire:
        subject = wire.getpeercert()
    answering.join()

    assert subject is not None
    assert ("DNS", "cache.test") in subject["subjectAltName"]


def test_the_appliance_accepts_the_file_unchanged() -> None:
    """The appliance accepts the file that `entrepot certs` writes, with certificate and key."""
    run(*HOSTS)
    settings = config.load(["--http.tls.certificate=tls/certs/certs.pem"], {}).settings

    assert config.certificate_problems(settings) == []


def test_keys_are_private_and_the_ca_key_is_not_in_the_mounted_folder() -> None:
    """The appliance's folder `certs/` has no key of the CA: such a key could sign for any name."""
    run(*HOSTS)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in Path("tls").rglob("*.*")}

    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "certs.pem": 0o600}
    assert [each.name for each in Path("tls/certs").iterdir()] == ["certs.pem"]


def test_a_renewal_keeps_the_ca_and_the_names() -> None:
    """A renewal keeps the CA and the names, so clients need no new CA."""
    before, first = run(*HOSTS)

    after, second = run()

    assert before == after
    assert leaf(first).serial_number != leaf(second).serial_number
    assert authority.hosts_of(first) == authority.hosts_of(second) == ["cache.test", "127.0.0.1"]


def test_a_renewal_can_change_the_names() -> None:
    """The --host options of a renewal replace the names of the old certificate."""
    run(*HOSTS)

    _, chain = run("--host", "new.test", "--host", "::1", "--days", "30")

    assert authority.hosts_of(chain) == ["new.test", "::1"]
    life = leaf(chain).not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29) < life < dt.timedelta(days=30, minutes=1)


def test_no_certificate_outlives_its_ca() -> None:
    """No certificate outlives its CA, because clients reject a certificate of an expired CA."""
    now = dt.datetime.now(dt.UTC)
    old = authority.create(now - dt.timedelta(days=3600))

    signed = authority.sign(old, ["a"], now=now, life=dt.timedelta(days=365))

    assert old.ends == signed.ends


def test_the_output_explains_how_each_client_trusts_the_ca(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`entrepot certs` explains how each client trusts the CA.

    It prints the paths of the clients' files, and the command that writes all of them.
    """
    run(*HOSTS)
    output = capsys.readouterr().out

    assert "/etc/containers/certs.d/cache.test:8443/ca.crt" in output
    assert "/etc/docker/certs.d/cache.test:8443/ca.crt" in output
    assert "entrepot clients --host cache.test --ca tls/ca.pem" in output


def test_an_expired_ca_signs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An expired CA signs nothing.

    A new CA must be installed on every client, so the operator decides about it.
    """
    old = authority.create(dt.datetime.now(dt.UTC) - dt.timedelta(days=4000))
    Path("tls").mkdir()
    Path("tls/ca.pem").write_bytes(old.pem)
    Path("tls/ca.key").write_bytes(old.key_pem)

    assert main(["certs", "--out", "tls", *HOSTS]) == 2
    assert "expired on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "text", "expected"),
    [
        ("ca.key", None, "ca.key: no such file"),
        ("ca.pem", None, "ca.pem: no such file"),
        ("ca.key", "other", "the key does not belong to the certificate"),
        ("ca.key", "nonsense", "tls: "),
        ("ca.pem", "nonsense", "tls: "),
    ],
)
def test_an_incomplete_ca_is_not_replaced_silently(
    capsys: pytest.CaptureFixture[str], broken: str, text: str | None, expected: str
) -> None:
    """If a file of the CA is missing or wrong, no new CA is made: clients trust the old CA."""
    run(*HOSTS)
    other = authority.create(dt.datetime.now(dt.UTC)).key_pem
    if text is None:
        Path("tls", broken).unlink()
    else:
        Path("tls", broken).write_bytes(other if text == "other" else text.encode())
    capsys.readouterr()

    assert main(["certs", "--out", "tls", *HOSTS]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert "delete ca.pem and ca.key" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--host: the name by which clients reach the appliance is missing"),
        (["--host", "a b"], "--host=a b: not a host"),
        (["--host", "*.test"], "not a host"),
        (["--host", "a", "--days", "0"], "from 1 to 825"),
        (["--host", "a", "--days", "x"], "from 1 to 825"),
        (["--host", "a", "config.yml"], "config.yml: unknown option"),
    ],
)
def test_bad_input_prints_one_line_and_creates_no_files(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    """For bad input `entrepot certs` prints one line with a correction, and creates no file."""
    assert main(["certs", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not Path("entrepot-tls").exists()
