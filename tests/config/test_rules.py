"""What settings may not say together, and what an operator should think about."""

from __future__ import annotations

import pytest

from tests.config.desk import Desk


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "--http.tls.key=/k.pem",
            "--http.tls.key=/k.pem: a key without a certificate; set http.tls.certificate too",
        ),
        (
            "--proxy.remoteurl=a.io --proxy.username=me",
            "--proxy.username: without proxy.password; set proxy.password too",
        ),
        (
            "--proxy.remoteurl=a.io --proxy.password=me",
            "--proxy.password: without proxy.username; set proxy.username too",
        ),
        (
            "--proxy.default=a.io --proxy.remoteurl=b.io",
            "proxy.default: several upstreams are the default: a.io, b.io; keep one",
        ),
        (
            "--upstreams.a.io.default=true --upstreams.b.io.default=true",
            "proxy.default: several upstreams are the default: a.io, b.io; keep one",
        ),
        (
            "--upstreams.a.io.username=me",
            (
                "--upstreams.a.io.username: a username without a password; "
                "set password or passwordfile too"
            ),
        ),
        (
            "--upstreams.a.io.password=x",
            "--upstreams.a.io.password: a password without a username; set username too",
        ),
        (
            "--upstreams.a.io.passwordfile=/x",
            "--upstreams.a.io.passwordfile: a password without a username; set username too",
        ),
        (
            '--upstreams.a.io={"username":"u","password":"x","passwordfile":"/x"}',
            ("--upstreams.a.io: a password beside it; keep one of password and passwordfile"),
        ),
    ],
    ids=range(9),
)
def test_a_contradiction_is_one_line(desk: Desk, flags: str, expected: str) -> None:
    """With what was said, and what to do."""
    assert [expected] == desk.problems(*flags.split())


def test_one_default_said_twice_is_no_contradiction(desk: Desk) -> None:
    """Docker Hub by two of its names."""
    flags = ["--proxy.default=docker.io", "--proxy.remoteurl=https://registry-1.docker.io"]

    assert desk.problems(*flags) == []


@pytest.mark.parametrize("address", [":5000", "0.0.0.0:5000", "10.0.0.1:5000", "[::]:5000"])
def test_an_open_door_is_one_warning(desk: Desk, address: str) -> None:
    """Open to all is allowed, but not by accident."""
    (warning,) = desk.examine(REGISTRY_HTTP_ADDR=address).warnings

    expected = f"http.addr={address}: everybody who can reach it may pull; "
    assert str(warning).startswith(expected)
    assert "they may push too:" in str(warning)


def test_an_open_door_for_deletes_is_told(desk: Desk) -> None:
    """Whoever may push may delete, where deletes are switched on."""
    said = {"REGISTRY_HTTP_ADDR": ":5000", "REGISTRY_STORAGE_DELETE_ENABLED": "true"}
    (warning,) = desk.examine(**said).warnings

    assert "they may push too, and delete:" in str(warning)


@pytest.mark.parametrize(
    "environ",
    [
        {"REGISTRY_HTTP_ADDR": "127.0.0.1:5000"},
        {"REGISTRY_HTTP_ADDR": "[::1]:5000"},
        {"REGISTRY_HTTP_ADDR": ":5000", "REGISTRY_AUTH_HTPASSWD_PATH": "/h"},
        {},
    ],
    ids=["loopback", "loopback 6", "passwords", "default"],
)
def test_a_closed_door_is_none(desk: Desk, environ: dict[str, str]) -> None:
    """On loopback, or with passwords."""
    assert desk.examine(**environ).warnings == ()


@pytest.mark.parametrize(
    ("size", "is_told"), [("10", True), ("1M", True), ("10M", False), ("0", False)]
)
def test_a_size_without_its_unit_is_a_warning(
    desk: Desk,
    size: str,
    is_told: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Nothing would be kept, and no pull would fail."""
    expected = (
        f"CLEANER_MAXSIZE={size}: logs and index alone need more, so nothing is kept; try 10G"
    )

    assert desk.warnings(CLEANER_MAXSIZE=size) == [expected] * is_told


def test_a_login_for_no_upstream_is_a_warning(desk: Desk) -> None:
    """Distribution starts with it, as no proxy."""
    (warning,) = desk.warnings("--proxy.username=a", "--proxy.password=b")

    assert warning.startswith("proxy.username: without effect: there is no proxy.remoteurl")
