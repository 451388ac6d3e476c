"""Test contradictions between settings, and settings that are probably mistakes."""

from __future__ import annotations

import pytest

from tests.config.config_folder import ConfigFolder


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "--http.tls.key=/k.pem",
            "--http.tls.key=/k.pem: a key without a certificate; set http.tls.certificate too",
        ),
        (
            "--proxy.remoteurl=a.io --proxy.username=me",
            "--proxy.username: proxy.password is not set; set proxy.password too",
        ),
        (
            "--proxy.remoteurl=a.io --proxy.password=me",
            "--proxy.password: proxy.username is not set; set proxy.username too",
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
            ("--upstreams.a.io: password is set too; keep one of password and passwordfile"),
        ),
    ],
    ids=range(9),
)
def test_a_contradiction_is_one_line(
    config_folder: ConfigFolder, flags: str, expected: str
) -> None:
    """A contradiction between settings causes one line with their source and a remedy."""
    assert [expected] == config_folder.problems(*flags.split())


def test_the_same_default_set_twice_is_no_contradiction(config_folder: ConfigFolder) -> None:
    """Two settings with the same default upstream are no contradiction.

    In this test the two settings have different names of Docker Hub.
    """
    flags = ["--proxy.default=docker.io", "--proxy.remoteurl=https://registry-1.docker.io"]

    assert config_folder.problems(*flags) == []


@pytest.mark.parametrize("address", [":5000", "0.0.0.0:5000", "10.0.0.1:5000", "[::]:5000"])
def test_an_address_without_passwords_is_one_warning(
    config_folder: ConfigFolder, address: str
) -> None:
    """If no passwords are set, an address that other machines can reach causes one warning."""
    (warning,) = config_folder.examine(REGISTRY_HTTP_ADDR=address).warnings

    expected = f"http.addr={address}: every client that can reach the appliance may pull and push; "
    assert str(warning).startswith(expected)
    assert "set REGISTRY_AUTH_HTPASSWD_PATH, or listen" in str(warning)


def test_the_warning_mentions_deletes_if_they_are_enabled(config_folder: ConfigFolder) -> None:
    """The warning about open access mentions deletes if they are enabled."""
    environ = {"REGISTRY_HTTP_ADDR": ":5000", "REGISTRY_STORAGE_DELETE_ENABLED": "true"}
    (warning,) = config_folder.examine(**environ).warnings

    assert "may pull, push and delete; " in str(warning)


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
def test_loopback_or_passwords_cause_no_warning(
    config_folder: ConfigFolder, environ: dict[str, str]
) -> None:
    """On loopback, or with passwords, there is no warning about open access."""
    assert config_folder.examine(**environ).warnings == ()


@pytest.mark.parametrize(
    ("size", "is_warned"), [("10", True), ("1M", True), ("10M", False), ("0", False)]
)
def test_a_size_without_its_unit_is_a_warning(
    config_folder: ConfigFolder,
    size: str,
    is_warned: bool,  # noqa: FBT001 - a table's column
) -> None:
    """A maximum size that logs and index alone exceed causes a warning: its unit may be missing.

    No content would be stored. The operator would not notice this, because no pull would fail.
    """
    expected = (
        f"CLEANER_MAXSIZE={size}: logs and index alone need more space, so no content is kept;"
        " try 10G"
    )

    assert config_folder.warnings(CLEANER_MAXSIZE=size) == [expected] * is_warned


def test_a_login_for_no_upstream_is_a_warning(config_folder: ConfigFolder) -> None:
    """A login without `proxy.remoteurl` causes a warning.

    Docker distribution does not proxy without this URL either.
    """
    (warning,) = config_folder.warnings("--proxy.username=a", "--proxy.password=b")

    assert warning.startswith("proxy.username: the key has no effect: proxy.remoteurl is not set")
