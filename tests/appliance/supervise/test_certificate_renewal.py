"""A renewed certificate, taken up by a real HAProxy that goes on serving."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.appliance.supervise import certificate
from entrepot.appliance.supervise.certificate_renewal import CertificateRenewal, renewal
from entrepot.config.schema import Settings
from tests.appliance.front import Front, eventually
from tests.certificates import Authority
from tests.config.desk import Desk


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return whoever signs."""
    return Authority(tmp_path)


@pytest.fixture
def settings(tmp_path: Path, authority: Authority) -> Settings:
    """Return settings with a certificate for first.test."""
    path = tmp_path / "certs.pem"
    path.write_bytes(authority.certificate("first.test").read_bytes())
    return Desk(tmp_path).settings(REGISTRY_HTTP_TLS_CERTIFICATE=str(path))


@pytest.fixture
def run(tmp_path: Path, settings: Settings) -> Path:
    """Return a run directory with what HAProxy reads at its start."""
    folder = tmp_path / "run"
    folder.mkdir()
    certificate.write_pem(settings.http.tls, folder / certificate.NAME)
    return folder


def _path(settings: Settings) -> Path:
    assert settings.http.tls.certificate is not None
    return settings.http.tls.certificate


def _name(front: Front) -> str:
    """Return whom HAProxy says that it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain,
        context.wrap_socket(plain) as wire,
    ):
        raw = wire.getpeercert(binary_form=True)
    return next(name for name in ("first.test", "second.test") if name.encode() in (raw or b""))


def test_a_renewed_certificate_is_shown_to_the_next_client(
    run: Path, settings: Settings, authority: Authority
) -> None:
    """A connection that is open stays open, for HAProxy is the same process."""
    with Front(run, certificate=run / certificate.NAME) as front:
        watch = renewal(settings, run)
        assert _name(front) == "first.test"
        before = front.admin("show info")
        with socket.create_connection(("127.0.0.1", front.port), timeout=10):
            _path(settings).write_bytes(authority.certificate("second.test").read_bytes())

            _looking(watch, lambda: _name(front) == "second.test")

        assert _pid(before) == _pid(front.admin("show info"))
        # and HAProxy would start again with it
        assert (run / certificate.NAME).read_bytes() == _path(settings).read_bytes()


def test_the_old_one_stays_until_its_key_has_come_too(
    tmp_path: Path, run: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Two files are never written at once."""
    first, second = (_halves(authority.certificate(f"{name}.test")) for name in _NAMES)
    paths = tmp_path / "tls.crt", tmp_path / "tls.key"
    for path, half in zip(paths, first, strict=True):
        path.write_bytes(half)
    flags = [f"--http.tls.certificate={paths[0]}", f"--http.tls.key={paths[1]}"]
    settings = Desk(tmp_path).settings(*flags)
    certificate.write_pem(settings.http.tls, run / certificate.NAME)
    with Front(run, certificate=run / certificate.NAME) as front:
        watch = renewal(settings, run)
        paths[0].write_bytes(second[0])
        _looking(watch, lambda: "changed certificate" in caplog.text)
        assert _name(front) == "first.test"

        paths[1].write_bytes(second[1])

        _looking(watch, lambda: _name(front) == "second.test")
    assert caplog.text.count("changed certificate not used") == 1


def test_haproxy_that_does_not_listen_is_told_later(
    run: Path, settings: Settings, authority: Authority
) -> None:
    """It is just being started again, and may have read the old file."""
    watch = renewal(settings, run)
    _path(settings).write_bytes(authority.certificate("second.test").read_bytes())
    renewed = _path(settings).read_bytes()
    _looking(watch, lambda: (run / certificate.NAME).read_bytes() == renewed)
    (run / certificate.NAME).write_bytes(authority.certificate("first.test").read_bytes())

    with Front(run, certificate=run / certificate.NAME) as front:
        watch.look()

        assert _name(front) == "second.test"


def test_what_haproxy_refuses_is_told_once(
    run: Path, settings: Settings, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start reads the file; until then the old one is shown."""
    asked: list[str] = []

    def refuse(line: str) -> str:
        asked.append(line.partition(" <<")[0])
        return "no such certificate"

    target = run / certificate.NAME
    watch = CertificateRenewal(settings, target, refuse)
    _path(settings).write_bytes(authority.certificate("second.test").read_bytes())

    _looking(watch, lambda: asked)
    watch.look()

    assert asked == [f"{verb} ssl cert {target}" for verb in ("set", "commit", "abort")]
    assert caplog.text.count("restart to use it") == 1


def test_without_a_certificate_nothing_is_watched(tmp_path: Path) -> None:
    """Plain HTTP needs none."""
    settings = Desk(tmp_path).settings(REGISTRY_HTTP_TLS_CERTIFICATE="")

    renewal(settings, tmp_path / "absent").look()

    assert not (tmp_path / "absent").exists()


def _looking(watch: CertificateRenewal, seen: Callable[[], object]) -> None:
    """Look, as `serve` does, until something is seen."""

    def look() -> object:
        watch.look()
        return seen()

    eventually(look)


_NAMES = ("first", "second")


def _halves(path: Path) -> tuple[bytes, bytes]:
    """Return certificate and key."""
    chain, mark, key = path.read_bytes().partition(b"-----BEGIN PRIVATE")
    return chain, mark + key


def _pid(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("Pid:"))
