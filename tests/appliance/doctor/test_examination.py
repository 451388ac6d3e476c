"""What is in the way is told first, and what lies behind it is left alone."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance.doctor import trust
from entrepot.appliance.doctor.examination import Diagnosis, Target, examine
from entrepot.appliance.doctor.finding import Health
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.logins import Login
from tests.certificates import Authority
from tests.upstream import FakeUpstream

IMAGE = ImageName("one.test", "app", "v1")
HEADERS = {
    "OCI-Namespace": "one.test",
    "Cache-Status": "entrepot; hit",
    "Docker-Distribution-Api-Version": "registry/2.0",
}
NOBODY = Target(
    "127.0.0.1", 1, "127.0.0.1", tls=False, authority=None, login=None, image=IMAGE, default=None
)


@pytest.fixture
def front() -> Iterator[FakeUpstream]:
    """A registry that answers as an appliance does."""
    with FakeUpstream() as server:
        server.misbehave("", headers=HEADERS)
        server.add_image("one.test/app", "v1", [b"layer"])
        server.add_image("app", "v1", [b"layer"])
        yield server


def at(host: str) -> Target:
    """Return the patient that listens there."""
    return replace(NOBODY, port=int(host.rpartition(":")[2]))


def last(report: Diagnosis) -> tuple[str, Health, str]:
    """Return what was found last."""
    found = report.findings[-1]
    return found.what, found.verdict, f"{found.why}; {found.remedy}"


def test_all_is_looked_at_where_nothing_is_in_the_way(front: FakeUpstream) -> None:
    """The registry, the login, and each route."""
    report = examine(at(front.host), time.time())

    assert [each.what for each in report.findings] == ["registry", "login", "prefix", "ns"]
    assert report.is_well
    assert report.url == front.url


def test_nobody_there_is_the_end_of_it() -> None:
    """With what the system said."""
    report = examine(NOBODY, time.time())

    assert last(report)[:2] == ("registry", Health.FAILS)
    assert "connection refused" in last(report)[2]
    assert not report.is_well


def test_a_web_server_is_no_registry(front: FakeUpstream) -> None:
    """It answers, and knows nothing of images."""
    front.behave()

    assert "is not from a registry" in last(examine(at(front.host), time.time()))[2]


def test_no_image_at_all_is_said(front: FakeUpstream) -> None:
    """With how to name one."""
    report = examine(replace(at(front.host), image=None), time.time())

    assert last(report)[:2] == ("image", Health.FAILS)
    assert "--image" in last(report)[2]


def test_a_password_that_is_needed_and_not_given_is_said(front: FakeUpstream) -> None:
    """And nothing is pulled: it would say the same four times."""
    front.misbehave("/v2/$", status=401, headers=HEADERS)

    report = examine(at(front.host), time.time())

    assert last(report)[:2] == ("login", Health.FAILS)
    assert "a password is needed" in last(report)[2]


def test_no_password_is_needed_where_strangers_may_pull(front: FakeUpstream) -> None:
    """`/v2/` asks for one there too, or clients would never log in."""
    front.misbehave("/v2/$", status=401, headers=HEADERS)
    front.misbehave("/v2/_catalog", status=200, headers=HEADERS)

    report = examine(at(front.host), time.time())

    assert [each.what for each in report.findings] == ["registry", "login", "prefix", "ns"]
    assert report.is_well


def test_a_wrong_password_is_said_without_being_shown(front: FakeUpstream) -> None:
    """Who, and not with what."""
    front.misbehave("/v2/$", status=401, headers=HEADERS)
    patient = replace(at(front.host), login=Login("robot", "sesame"))

    report = examine(patient, time.time())

    assert "robot is refused: 401" in last(report)[2]
    assert "sesame" not in repr(report) + repr(patient)


def test_a_password_that_is_right_is_used_for_every_pull(front: FakeUpstream) -> None:
    """Once in, by Basic."""
    patient = replace(at(front.host), login=Login("robot", "sesame"))

    report = examine(patient, time.time())

    assert report.is_well
    users = {each.headers.get("authorization") for each in front.requests[1:]}
    assert users == {"Basic cm9ib3Q6c2VzYW1l"}


def test_a_certificate_is_looked_at_first(tmp_path: Path) -> None:
    """Trusted, for its name, until its end."""
    signer = Authority(tmp_path)
    with FakeUpstream(tls=signer.context("127.0.0.1")) as front:
        front.misbehave("", headers=HEADERS)
        patient = replace(at(front.host), tls=True, authority=signer.path.read_text())

        report = examine(patient, time.time())

    assert report.findings[0].what == "certificate"
    assert "trusted, for 127.0.0.1" in report.findings[0].why
    assert "entrepot certs" in report.findings[0].remedy  # it ends tomorrow


@pytest.mark.parametrize(
    ("name", "is_known", "told"),
    [
        ("127.0.0.1", False, "entrepot clients"),
        ("other.test", True, "entrepot certs --host other.test"),
    ],
)
def test_a_certificate_that_a_client_would_refuse_is_the_end(
    tmp_path: Path, name: str, told: str, *, is_known: bool
) -> None:
    """An unknown authority, or another's name; no password is sent there."""
    signer = Authority(tmp_path)
    with FakeUpstream(tls=signer.context("127.0.0.1")) as front:
        patient = replace(
            at(front.host),
            name=name,
            tls=True,
            authority=signer.path.read_text() if is_known else None,
            login=Login("robot", "sesame"),
        )

        report = examine(patient, time.time())

    assert last(report)[:2] == ("certificate", Health.FAILS)
    assert told in last(report)[2]
    assert not front.requests


def test_plain_http_where_tls_was_meant_is_said(front: FakeUpstream) -> None:
    """The remedy is the other scheme."""
    report = examine(replace(at(front.host), tls=True), time.time())

    assert "--host http://" in last(report)[2]


def test_a_certificate_with_time_left_needs_nothing() -> None:
    """Two weeks before its end it is worth a word."""
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    assert trust.expiry({"notAfter": "Jan 30 00:00:00 2030 GMT"}, "a", now).remedy == ""
    assert trust.expiry({"notAfter": "Jan  9 00:00:00 2030 GMT"}, "a", now).remedy
