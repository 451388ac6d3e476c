"""`entrepot certs`: an authority that stays, a certificate that is renewed."""

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


def made(*words: str) -> tuple[bytes, bytes]:
    """Make or renew it in `tls` and return authority and chain."""
    assert main(["certs", "--out", "tls", *words]) == 0
    return Path("tls/ca.pem").read_bytes(), Path("tls/certs/certs.pem").read_bytes()


def leaf(chain: bytes) -> x509.Certificate:
    """Return the server's own certificate."""
    return x509.load_pem_x509_certificates(chain)[0]


@pytest.mark.parametrize("name", ["cache.test", "127.0.0.1"])
def test_a_client_that_trusts_the_authority_trusts_the_server(name: str) -> None:
    """By name and by address, with all that OpenSSL can be strict about."""
    made(*HOSTS)
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


def test_the_appliance_takes_the_file_as_it_is() -> None:
    """Certificate, chain and key in one, as HAProxy wants it."""
    made(*HOSTS)
    settings = config.load(["--http.tls.certificate=tls/certs/certs.pem"], {}).settings

    assert config.certificate_problems(settings) == []


def test_keys_are_for_their_owner_and_the_authoritys_is_not_in_the_mounted_folder() -> None:
    """The appliance gets `certs/` alone: with the authority's key it could sign for any name."""
    made(*HOSTS)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in Path("tls").rglob("*.*")}

    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "certs.pem": 0o600}
    assert [each.name for each in Path("tls/certs").iterdir()] == ["certs.pem"]


def test_a_renewal_keeps_the_authority_and_what_it_is_for() -> None:
    """Clients need not be told again, nor we."""
    before, first = made(*HOSTS)

    after, second = made()

    assert before == after
    assert leaf(first).serial_number != leaf(second).serial_number
    assert authority.hosts_of(first) == authority.hosts_of(second) == ["cache.test", "127.0.0.1"]


def test_a_renewal_may_be_for_others() -> None:
    """A new name is said, and then it is the one."""
    made(*HOSTS)

    _, chain = made("--host", "new.test", "--host", "::1", "--days", "30")

    assert authority.hosts_of(chain) == ["new.test", "::1"]
    life = leaf(chain).not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29) < life < dt.timedelta(days=30, minutes=1)


def test_no_certificate_outlives_its_authority() -> None:
    """Else clients refuse it before its own end, and nobody sees why."""
    now = dt.datetime.now(dt.UTC)
    old = authority.create(now - dt.timedelta(days=3600))

    signed = authority.sign(old, ["a"], now=now, life=dt.timedelta(days=365))

    assert old.ends == signed.ends


def test_it_says_how_each_client_comes_to_trust_it(capsys: pytest.CaptureFixture[str]) -> None:
    """By path, and by the command that writes them all."""
    made(*HOSTS)
    told = capsys.readouterr().out

    assert "/etc/containers/certs.d/cache.test:8443/ca.crt" in told
    assert "/etc/docker/certs.d/cache.test:8443/ca.crt" in told
    assert "entrepot clients --host cache.test --ca tls/ca.pem" in told


def test_an_authority_that_has_ended_signs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy is dear, so it is the operator's to choose."""
    old = authority.create(dt.datetime.now(dt.UTC) - dt.timedelta(days=4000))
    Path("tls").mkdir()
    Path("tls/ca.pem").write_bytes(old.pem)
    Path("tls/ca.key").write_bytes(old.key_pem)

    assert main(["certs", "--out", "tls", *HOSTS]) == 2
    assert "expired on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "text", "told"),
    [
        ("ca.key", None, "ca.key: no such file"),
        ("ca.pem", None, "ca.pem: no such file"),
        ("ca.key", "other", "the key is not the certificate's"),
        ("ca.key", "nonsense", "tls: "),
        ("ca.pem", "nonsense", "tls: "),
    ],
)
def test_half_an_authority_is_not_replaced_in_silence(
    capsys: pytest.CaptureFixture[str], broken: str, text: str | None, told: str
) -> None:
    """Clients trust the one that is there."""
    made(*HOSTS)
    other = authority.create(dt.datetime.now(dt.UTC)).key_pem
    if text is None:
        Path("tls", broken).unlink()
    else:
        Path("tls", broken).write_bytes(other if text == "other" else text.encode())
    capsys.readouterr()

    assert main(["certs", "--out", "tls", *HOSTS]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert "delete ca.pem and ca.key" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--host: missing"),
        (["--host", "a b"], "--host=a b: not a host"),
        (["--host", "*.test"], "not a host"),
        (["--host", "a", "--days", "0"], "from 1 to 825"),
        (["--host", "a", "--days", "x"], "from 1 to 825"),
        (["--host", "a", "config.yml"], "config.yml: unknown option"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """With what to write instead."""
    assert main(["certs", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not Path("entrepot-tls").exists()
