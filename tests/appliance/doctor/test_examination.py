"""Test which checks `entrepot doctor` runs, and at which failures it stops."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance.doctor import trust
from entrepot.appliance.doctor.command import _own_host
from entrepot.appliance.doctor.examination import Diagnosis, Target, examine
from entrepot.appliance.doctor.finding import Health
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.logins import Login
from entrepot.config.errors import ConfigError
from entrepot.registry.upstream.breaker import Breaker, Pass, UpstreamFailure
from tests.certificates import Authority
from tests.config.config_folder import ConfigFolder
from tests.upstream import FakeUpstream

IMAGE = ImageName("one.test", "app", "v1")
HEADERS = {
    "OCI-Namespace": "one.test",
    "Cache-Status": "entrepot; hit",
    "Docker-Distribution-Api-Version": "registry/2.0",
}
UNREACHABLE = Target(
    "127.0.0.1", 1, "127.0.0.1", tls=False, authority=None, login=None, image=IMAGE, default=None
)


@pytest.fixture
def registry() -> Iterator[FakeUpstream]:
    """Run a server that responds as an appliance with one image does."""
    with FakeUpstream() as server:
        server.misbehave("", headers=HEADERS)
        server.add_image("one.test/app", "v1", [b"layer"])
        server.add_image("app", "v1", [b"layer"])
        yield server


def at(host: str) -> Target:
    """Return a target for `doctor` with the port of *host*."""
    return replace(UNREACHABLE, port=int(host.rpartition(":")[2]))


def last(report: Diagnosis) -> tuple[str, Health, str]:
    """Return the last finding of the report: its name, its verdict and its text."""
    found = report.findings[-1]
    return found.what, found.verdict, f"{found.why}; {found.remedy}"


def test_without_a_failure_all_checks_run(registry: FakeUpstream) -> None:
    """Without a failure `doctor` checks the registry, the login, and a pull by each route."""
    report = examine(at(registry.host), time.time())

    assert [each.what for each in report.findings] == ["registry", "login", "prefix", "ns"]
    assert report.is_well
    assert report.url == registry.url


def test_every_request_has_the_prefix_of_the_api(registry: FakeUpstream) -> None:
    """`doctor` sends every request below `http.prefix`.

    The appliance responds 404 to all other paths.
    """
    target = replace(at(registry.host), prefix="/reg")
    registry.misbehave("/reg/v2/", status=503)
    examine(target, time.time())

    assert [each.path for each in registry.requests] == ["/reg/v2/"]


def test_a_socket_needs_the_address_of_the_proxy_in_front(tmp_path: Path) -> None:
    """If the appliance listens on a unix socket, `doctor` needs the address of the proxy in front.

    Clients of the appliance connect to that proxy and never to the socket.
    """
    config_folder = ConfigFolder(tmp_path)
    settings = config_folder.settings("--http.net=unix", "--http.addr=/run/registry.sock")

    with pytest.raises(
        ConfigError, match=r"http.addr is a socket.*give the address of the proxy: --host"
    ):
        _own_host(settings)


def test_a_refused_connection_ends_the_checks() -> None:
    """If the connection is refused, `doctor` reports the system's error message and stops."""
    report = examine(UNREACHABLE, time.time())

    assert last(report)[:2] == ("registry", Health.FAILS)
    assert "connection refused" in last(report)[2]
    assert not report.is_well


def test_a_web_server_is_not_a_registry(registry: FakeUpstream) -> None:
    """`doctor` reports a web server that responds without a registry's headers."""
    registry.behave()

    assert "is not from a registry" in last(examine(at(registry.host), time.time()))[2]


def test_a_missing_image_is_reported(registry: FakeUpstream) -> None:
    """If `doctor` finds no image to pull, the finding names the option --image."""
    report = examine(replace(at(registry.host), image=None), time.time())

    assert last(report)[:2] == ("image", Health.FAILS)
    assert "--image" in last(report)[2]


def test_a_missing_password_ends_the_checks(registry: FakeUpstream) -> None:
    """If a password is missing, `doctor` pulls no image, because each pull would fail."""
    registry.misbehave("/v2/$", status=401, headers=HEADERS)

    report = examine(at(registry.host), time.time())

    assert last(report)[:2] == ("login", Health.FAILS)
    assert "a password is needed" in last(report)[2]


def test_no_password_is_needed_where_anonymous_pulls_are_allowed(registry: FakeUpstream) -> None:
    """`doctor` needs no password if anonymous pulls are allowed.

    Even then the appliance responds to `/v2/` with 401, because clients log in only after a 401.
    """
    registry.misbehave("/v2/$", status=401, headers=HEADERS)
    registry.misbehave("/v2/_catalog", status=200, headers=HEADERS)

    report = examine(at(registry.host), time.time())

    assert [each.what for each in report.findings] == ["registry", "login", "prefix", "ns"]
    assert report.is_well


def test_a_rejected_login_is_reported_without_its_password(registry: FakeUpstream) -> None:
    """The finding about a rejected login names the user, but not the password."""
    registry.misbehave("/v2/$", status=401, headers=HEADERS)
    target = replace(at(registry.host), login=Login("robot", "sesame"))

    report = examine(target, time.time())

    assert "robot is refused: 401" in last(report)[2]
    assert "sesame" not in repr(report) + repr(target)


def test_a_valid_login_is_used_for_every_pull(registry: FakeUpstream) -> None:
    """`doctor` sends a valid login with every pull, by HTTP Basic authentication."""
    target = replace(at(registry.host), login=Login("robot", "sesame"))

    report = examine(target, time.time())

    assert report.is_well
    users = {each.headers.get("authorization") for each in registry.requests[1:]}
    assert users == {"Basic cm9ib3Q6c2VzYW1l"}


def test_the_certificate_is_checked_first(tmp_path: Path) -> None:
    """`doctor` first checks that the certificate is trusted, names the server, and is valid."""
    signer = Authority(tmp_path)
    with FakeUpstream(tls=signer.context("127.0.0.1")) as registry:
        registry.misbehave("", headers=HEADERS)
        target = replace(at(registry.host), tls=True, authority=signer.path.read_text())

        report = examine(target, time.time())

    assert report.findings[0].what == "certificate"
    assert "trusted, for 127.0.0.1" in report.findings[0].why
    assert "entrepot certs" in report.findings[0].remedy  # the certificate expires tomorrow


@pytest.mark.parametrize(
    ("name", "is_known", "expected"),
    [
        ("127.0.0.1", False, "entrepot clients"),
        ("other.test", True, "entrepot certs --host other.test"),
    ],
)
def test_a_certificate_that_clients_reject_ends_the_checks(
    tmp_path: Path, name: str, expected: str, *, is_known: bool
) -> None:
    """`doctor` ends its checks if clients would reject the certificate's CA or name.

    It sends no password to a server with such a certificate.
    """
    signer = Authority(tmp_path)
    with FakeUpstream(tls=signer.context("127.0.0.1")) as registry:
        target = replace(
            at(registry.host),
            name=name,
            tls=True,
            authority=signer.path.read_text() if is_known else None,
            login=Login("robot", "sesame"),
        )

        report = examine(target, time.time())

    assert last(report)[:2] == ("certificate", Health.FAILS)
    assert expected in last(report)[2]
    assert not registry.requests


def test_plain_http_instead_of_tls_is_reported(registry: FakeUpstream) -> None:
    """If a server speaks plain HTTP instead of TLS, `doctor` suggests `--host http://`."""
    report = examine(replace(at(registry.host), tls=True), time.time())

    assert "--host http://" in last(report)[2]


def test_only_a_certificate_near_its_end_has_a_remedy() -> None:
    """`doctor` suggests a remedy for a certificate that expires within two weeks."""
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    assert trust.expiry({"notAfter": "Jan 30 00:00:00 2030 GMT"}, "a", now).remedy == ""
    assert trust.expiry({"notAfter": "Jan  9 00:00:00 2030 GMT"}, "a", now).remedy


def test_a_failed_pull_names_the_cause_of_the_breaker(
    registry: FakeUpstream, tmp_path: Path
) -> None:
    """The finding about a failed pull contains the cause from the upstream's circuit breaker."""
    registry.misbehave("/manifests/", status=502)
    failure = UpstreamFailure("timeout", at_once=True, detail="timeout: no connection within 2 s")
    Breaker("one.test", tmp_path).failed(failure, Pass())

    report = examine(replace(at(registry.host), breakers=tmp_path), time.time())

    assert "one.test: open (timeout: no connection within 2 s)" in last(report)[2]
