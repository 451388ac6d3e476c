"""Test client certificates with a real HAProxy: the four modes, and CAs that change."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance.plan import tls_paths
from entrepot.appliance.supervise import certificate
from entrepot.appliance.supervise.client_authorities import ClientAuthorities, client_authorities
from entrepot.config.schema import Settings
from entrepot.runtime.run_names import CERTIFICATE, CLIENT_AUTHORITIES
from tests.appliance.haproxy import Haproxy, eventually, stub_worker
from tests.certificates import Authority
from tests.config.config_folder import ConfigFolder

pytestmark = pytest.mark.slow

_MODES = (
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
)


class _Site:
    """A server certificate, a CA file for clients, and certificates of two CAs for clients."""

    def __init__(self, folder: Path) -> None:
        for name in ("server", "clients", "others"):
            (folder / name).mkdir()
        self.folder = folder
        self.server = Authority(folder / "server")
        self.clients = Authority(folder / "clients", "clients")
        self.others = Authority(folder / "others", "others")
        self.known = self.clients.certificate("known.test")
        self.stranger = self.others.certificate("stranger.test")
        self.trusted = folder / "trusted.pem"
        shutil.copy(self.clients.path, self.trusted)
        shutil.copy(self.server.certificate("localhost", "127.0.0.1"), folder / "certs.pem")

    def settings(self, *flags: str) -> Settings:
        """Return settings with client certificates."""
        return ConfigFolder(self.folder).settings(
            f"--http.tls.certificate={self.folder / 'certs.pem'}",
            f"--http.tls.clientcas={self.trusted}",
            *flags,
        )


@pytest.fixture(scope="module")
def made() -> Iterator[_Site]:
    """Return the certificates of a site, made once for all tests of this file."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield _Site(Path(folder))


@pytest.fixture
def site(made: _Site) -> _Site:
    """Return the certificates, with the CA of the known client trusted."""
    shutil.copy(made.clients.path, made.trusted)
    return made


def _watch(settings: Settings, run: Path) -> ClientAuthorities | None:
    """Return the watcher, which checks the files in this process instead of a child process."""

    def problems(*_: object) -> list[str]:
        return [str(each) for each in config.client_authority_problems(settings)]

    return client_authorities(tls_paths(settings.http.tls), run, problems)


def _wait_for(message: str, watch: ClientAuthorities, caplog: pytest.LogCaptureFixture) -> None:
    """Look for a change of the CA file until *message* is logged.

    `look` is called repeatedly, because not every call reads the file.
    """

    def is_logged() -> bool:
        watch.look()
        return message in caplog.text

    eventually(is_logged)


def _begin(stack: ExitStack, settings: Settings) -> Haproxy:
    """Start HAProxy with the settings, as `serve` does."""
    run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ent-")))
    stack.enter_context(stub_worker(run, 1))
    tls = tls_paths(settings.http.tls)
    authorities = certificate.write_client_authorities(tls, run / CLIENT_AUTHORITIES)
    return stack.enter_context(
        Haproxy(
            run,
            1,
            certificate=certificate.write_pem(tls, run / CERTIFICATE),
            http=settings.http,
            variables={"ENTREPOT_CLIENT_CAS": str(authorities)},
        )
    )


def _context(site: _Site, shown: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(site.server.path))
    if shown is not None:
        context.load_cert_chain(shown)
    return context


def _status(
    haproxy: Haproxy, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> str:
    """Return the first line of the response to a client, or the error of the connection."""
    try:
        with (
            socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as wire,
        ):
            wire.sendall(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return wire.recv(65536).decode("latin-1").partition("\r\n")[0]
    except (ssl.SSLError, ConnectionError) as error:
        return f"refused: {error}"


@pytest.mark.parametrize("mode", _MODES)
def test_each_mode_admits_the_clients_that_it_admits_in_docker_distribution(
    site: _Site, mode: str
) -> None:
    """Each mode of client certificates admits the same clients as docker distribution."""
    expected = {
        "request-client-cert": [True, True, True],
        "require-any-client-cert": [False, True, True],
        "verify-client-cert-if-given": [True, True, False],
        "require-and-verify-client-cert": [False, True, False],
    }
    with ExitStack() as stack:
        haproxy = _begin(stack, site.settings(f"--http.tls.clientauth={mode}"))
        shown = (None, site.known, site.stranger)
        admitted = [_status(haproxy, _context(site, each)) for each in shown]

    assert [each == "HTTP/1.1 200 OK" for each in admitted] == expected[mode]


def test_changed_authorities_take_effect_without_a_restart(
    site: _Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Changed CAs of clients take effect without a restart.

    A half-written CA file has no effect. A client of a removed CA is refused even if it resumes an
    earlier TLS session.
    """
    caplog.set_level("INFO")
    settings = site.settings()
    with ExitStack() as stack:
        haproxy = _begin(stack, settings)
        watch = _watch(settings, haproxy.run)
        assert watch is not None
        context = _context(site, site.known)
        with (
            socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            wire.sendall(b"HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert wire.recv(65536).endswith(b"\r\n\r\n")
            session = wire.session
            site.trusted.write_text("nothing")
            _wait_for("the changed client CAs are not used", watch, caplog)
            assert _status(haproxy, context).endswith("200 OK")

            shutil.copy(site.others.path, site.trusted)
            _wait_for("client CAs renewed", watch, caplog)
            assert _status(haproxy, _context(site, site.stranger)).endswith("200 OK")
            assert _status(haproxy, _context(site, site.known)).startswith("refused")
            assert _status(haproxy, context, session).startswith("refused")
            wire.sendall(b"HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/1.1 200" in wire.recv(65536)


def test_too_many_authorities_need_a_restart_and_the_log_says_so(
    site: _Site, caplog: pytest.LogCaptureFixture
) -> None:
    """If the new CA file has too many CAs, the log states that a restart is needed.

    HAProxy's admin socket accepts at most 32 KiB in one command, too little for many CAs.
    """
    settings = site.settings()
    with ExitStack() as stack:
        haproxy = _begin(stack, settings)
        watch = _watch(settings, haproxy.run)
        assert watch is not None
        site.trusted.write_bytes(site.clients.path.read_bytes() * 60)
        _wait_for("the client CAs could not be loaded, restart to use them", watch, caplog)


@pytest.mark.parametrize(
    ("flags", "version", "cipher"),
    [
        (("--http.tls.minimumtls=tls1.3",), ssl.TLSVersion.TLSv1_2, None),
        (("--http.tls.minimumtls=tls1.3",), ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256"),
        (("--http.tls.ciphersuites=TLS_AES_128_GCM_SHA256",), ssl.TLSVersion.TLSv1_2, None),
        (
            ("--http.tls.ciphersuites=TLS_AES_128_GCM_SHA256",),
            ssl.TLSVersion.TLSv1_3,
            "TLS_AES_128_GCM_SHA256",
        ),
        (
            ("--http.tls.ciphersuites=TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",),
            ssl.TLSVersion.TLSv1_2,
            "ECDHE-ECDSA-AES256-SHA",
        ),
        (
            (
                "--http.tls.ciphersuites=TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
                "--http.tls.minimumtls=tls1.0",
            ),
            ssl.TLSVersion.TLSv1,
            "ECDHE-ECDSA-AES128-SHA",
        ),
        ((), ssl.TLSVersion.TLSv1_1, None),
    ],
    ids=[
        "1.3 only: 1.2",
        "1.3 only: 1.3",
        "13 suite: 1.2",
        "13 suite: 1.3",
        "CBC",
        "1.0",
        "default",
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_versions_and_cipher_suites_are_those_that_the_operator_names(
    site: _Site, flags: tuple[str, ...], version: ssl.TLSVersion, cipher: str | None
) -> None:
    """TLS versions and cipher suites are those of the settings.

    A client with only one TLS version gets the configured suite, or no connection.
    """
    context = _context(site, site.known)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with ExitStack() as stack:
        haproxy = _begin(stack, site.settings(*flags))
        found = None
        with (
            socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
            ExitStack() as wires,
        ):
            try:
                wire = wires.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            except (ssl.SSLError, ConnectionError):
                assert cipher is None
            else:
                found = wire.cipher()

    assert (found and found[0]) == cipher


@pytest.mark.parametrize(("disabled", "protocol"), [("false", "h2"), ("true", None)])
def test_http2_is_not_offered_if_it_is_disabled(
    site: _Site, disabled: str, protocol: str | None
) -> None:
    """If `http.http2.disabled` is true, HAProxy does not offer HTTP/2 to clients."""
    context = _context(site, site.known)
    context.set_alpn_protocols(["h2"])
    with ExitStack() as stack:
        haproxy = _begin(stack, site.settings(f"--http.http2.disabled={disabled}"))
        with (
            socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            assert wire.selected_alpn_protocol() == protocol
