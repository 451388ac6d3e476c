"""Test listen addresses, and the names and URLs of upstreams."""

from __future__ import annotations

import pytest

from entrepot.config import address
from entrepot.config.address import Address
from entrepot.config.errors import Unreadable
from entrepot.runtime.docker_hub import default_url
from entrepot.runtime.hostnames import is_loopback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":5000", Address("", 5000)),
        ("127.0.0.1:5000", Address("127.0.0.1", 5000)),
        ("[::1]:5000", Address("::1", 5000)),
        ("localhost:80", Address("localhost", 80)),
        ("registry.example:65535", Address("registry.example", 65535)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, expected: Address) -> None:
    """An address is read and written in the format of docker distribution's `http.addr`."""
    assert expected == address.address(text)
    assert text == str(expected)


@pytest.mark.parametrize(
    "text",
    ["5000", "", ":", ":0", ":65536", "::1:5000", "a b:1", "http://x:1", "host:http", "a/b:1"],
)
def test_an_invalid_address_is_an_error(text: str) -> None:
    """The message about an invalid address shows two valid addresses as the remedy."""
    with pytest.raises(Unreadable, match=r"not host:port; try :5000 or 127\.0\.0\.1:5000"):
        address.address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("::1", True),
        ("[::1]:5000", True),
        ("", False),
        ("0.0.0.0", False),
        ("10.0.0.1:5000", False),
        ("quay.io", False),
        ("localhost.example", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, *, expected: bool) -> None:
    """`is_loopback` is true only for addresses of this machine.

    Its result decides whether an upstream gets plain HTTP, and whether open access causes a
    warning.
    """
    assert expected is is_loopback(host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io", "quay.io"),
        ("Quay.IO", "quay.io"),
        ("registry.example:5000", "registry.example:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_a_host_has_one_name(text: str, expected: str) -> None:
    """A host has one name, in lower case; all names of Docker Hub become `docker.io`."""
    assert expected == address.registry_host(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "quay.io/org", "https://quay.io", "-a.io", "a..b", "a_b", "a:0", "a:99999"]
)
def test_an_invalid_host_is_an_error(text: str) -> None:
    """An invalid host is an error, because hosts become parts of repository names."""
    with pytest.raises(Unreadable, match="not a registry's host"):
        address.registry_host(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://quay.io", "https://quay.io"),
        ("https://quay.io/", "https://quay.io"),
        ("http://mirror:5000", "http://mirror:5000"),
        ("mirror.example", "https://mirror.example"),
        ("localhost:5000", "http://localhost:5000"),
        ("https://h.example/api/docker/x", "https://h.example/api/docker/x"),
    ],
)
def test_a_url_gets_its_scheme_and_loses_its_slash(text: str, expected: str) -> None:
    """A URL of an upstream gets a scheme, and loses its last slash because `/v2/` is appended."""
    assert expected == address.registry_url(text)


@pytest.mark.parametrize(
    "text", ["", "ftp://quay.io", "https://", "https://a/?b", "https://a/#b", "https://[::1", "a b"]
)
def test_an_invalid_url_is_an_error(text: str) -> None:
    """An invalid URL of an upstream is an error with the appliance's own message."""
    with pytest.raises(Unreadable, match=r"not a registry's (URL|host)"):
        address.registry_url(text)


def test_a_url_must_not_contain_a_password() -> None:
    """A URL of an upstream must not contain a password, because URLs are logged."""
    with pytest.raises(Unreadable, match="a URL that contains a password"):
        address.registry_url("https://user:secret@quay.io")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.2:5000", "http://127.0.0.2:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
    ],
)
def test_the_default_url_of_a_host(host: str, expected: str) -> None:
    """The default URL of a host is HTTPS except for loopback, as in Docker.

    The default URL of Docker Hub is that of its API, which is not at docker.io.
    """
    assert expected == default_url(host)


def test_a_realm_is_unchanged() -> None:
    """A realm keeps its text, because the appliance compares it with the realm of a challenge."""
    assert address.realm_url("https://auth.example/token/") == "https://auth.example/token/"
