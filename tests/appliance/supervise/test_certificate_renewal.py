"""Test that a real HAProxy loads a renewed certificate without a restart."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance.plan import tls_paths
from entrepot.appliance.supervise import certificate
from entrepot.appliance.supervise.certificate_renewal import CertificateRenewal, renewal
from entrepot.config.schema import Settings
from entrepot.runtime.run_names import CERTIFICATE
from tests.appliance.haproxy import Haproxy, eventually
from tests.certificates import Authority
from tests.config.config_folder import ConfigFolder

pytestmark = pytest.mark.slow


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Create a certificate authority."""
    return Authority(tmp_path)


@pytest.fixture
def settings(tmp_path: Path, authority: Authority) -> Settings:
    """Return settings with a certificate for first.test."""
    path = tmp_path / "certs.pem"
    path.write_bytes(authority.certificate("first.test").read_bytes())
    return ConfigFolder(tmp_path).settings(REGISTRY_HTTP_TLS_CERTIFICATE=str(path))


@pytest.fixture
def run(tmp_path: Path, settings: Settings) -> Path:
    """Return a run directory with the PEM file that HAProxy reads at its start."""
    folder = tmp_path / "run"
    folder.mkdir()
    certificate.write_pem(tls_paths(settings.http.tls), folder / CERTIFICATE)
    return folder


def _path(settings: Settings) -> Path:
    assert settings.http.tls.certificate is not None
    return settings.http.tls.certificate


def _watch(settings: Settings, run: Path) -> CertificateRenewal:
    """Return the renewal, which checks the files in this process instead of a child process."""

    def problems(*_: object) -> list[str]:
        return [str(each) for each in config.certificate_problems(settings)]

    return renewal(tls_paths(settings.http.tls), run, problems)


def _certificate_name(haproxy: Haproxy) -> str:
    """Return the name in the certificate that HAProxy presents to clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
        context.wrap_socket(plain) as wire,
    ):
        raw = wire.getpeercert(binary_form=True)
    return next(name for name in ("first.test", "second.test") if name.encode() in (raw or b""))


def test_the_next_client_gets_a_renewed_certificate(
    run: Path, settings: Settings, authority: Authority
) -> None:
    """The next client gets a renewed certificate, and open connections stay open.

    HAProxy is not restarted.
    """
    with Haproxy(run, certificate=run / CERTIFICATE) as haproxy:
        watch = _watch(settings, run)
        assert _certificate_name(haproxy) == "first.test"
        before = haproxy.admin("show info")
        with socket.create_connection(("127.0.0.1", haproxy.port), timeout=10):
            _path(settings).write_bytes(authority.certificate("second.test").read_bytes())

            _look_until(watch, lambda: _certificate_name(haproxy) == "second.test")

        assert _pid(before) == _pid(haproxy.admin("show info"))
        # The run directory has the new certificate too: HAProxy would serve it after a restart.
        assert (run / CERTIFICATE).read_bytes() == _path(settings).read_bytes()


def test_the_old_certificate_stays_until_the_new_key_is_written(
    tmp_path: Path, run: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """HAProxy serves the old certificate until both files of the new one are written."""
    first, second = (_halves(authority.certificate(f"{name}.test")) for name in _NAMES)
    paths = tmp_path / "tls.crt", tmp_path / "tls.key"
    for path, half in zip(paths, first, strict=True):
        path.write_bytes(half)
    flags = [f"--http.tls.certificate={paths[0]}", f"--http.tls.key={paths[1]}"]
    settings = ConfigFolder(tmp_path).settings(*flags)
    certificate.write_pem(tls_paths(settings.http.tls), run / CERTIFICATE)
    with Haproxy(run, certificate=run / CERTIFICATE) as haproxy:
        watch = _watch(settings, run)
        paths[0].write_bytes(second[0])
        _look_until(watch, lambda: "changed certificate" in caplog.text)
        assert _certificate_name(haproxy) == "first.test"

        paths[1].write_bytes(second[1])

        _look_until(watch, lambda: _certificate_name(haproxy) == "second.test")
    assert caplog.text.count("the changed certificate is not used") == 1


def test_the_renewal_is_retried_while_haproxy_does_not_listen(
    run: Path, settings: Settings, authority: Authority
) -> None:
    """The renewal of a certificate is retried while HAProxy does not listen."""
    watch = _watch(settings, run)
    _path(settings).write_bytes(authority.certificate("second.test").read_bytes())
    renewed = _path(settings).read_bytes()
    _look_until(watch, lambda: (run / CERTIFICATE).read_bytes() == renewed)
    (run / CERTIFICATE).write_bytes(authority.certificate("first.test").read_bytes())

    with Haproxy(run, certificate=run / CERTIFICATE) as haproxy:
        watch.look()

        assert _certificate_name(haproxy) == "second.test"


def test_a_certificate_that_haproxy_rejects_is_logged_once(
    run: Path, settings: Settings, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """If HAProxy rejects a new certificate, it keeps the old one. The rejection is logged once."""
    asked: list[str] = []

    def refuse(line: str) -> str:
        asked.append(line.partition(" <<")[0])
        return "no such certificate"

    target = run / CERTIFICATE
    watch = CertificateRenewal(tls_paths(settings.http.tls), target, refuse, list)
    _path(settings).write_bytes(authority.certificate("second.test").read_bytes())

    _look_until(watch, lambda: asked)
    watch.look()

    assert asked == [f"{verb} ssl cert {target}" for verb in ("set", "commit", "abort")]
    assert caplog.text.count("restart to use it") == 1


def test_without_a_certificate_no_file_is_watched(tmp_path: Path) -> None:
    """Without TLS no certificate is watched, and none is written to the run directory."""
    settings = ConfigFolder(tmp_path).settings(REGISTRY_HTTP_TLS_CERTIFICATE="")

    _watch(settings, tmp_path / "absent").look()

    assert not (tmp_path / "absent").exists()


def _look_until(watch: CertificateRenewal, seen: Callable[[], object]) -> None:
    """Call `look` of the certificate's renewal, as `serve` does, until *seen* is true."""

    def look() -> object:
        watch.look()
        return seen()

    eventually(look)


_NAMES = ("first", "second")


def _halves(path: Path) -> tuple[bytes, bytes]:
    """Return the certificate and the key from a file with both."""
    chain, mark, key = path.read_bytes().partition(b"-----BEGIN PRIVATE")
    return chain, mark + key


def _pid(info: str) -> str:
    return next(line for line in info.splitlines() if line.startswith("Pid:"))
