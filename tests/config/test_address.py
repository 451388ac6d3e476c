"""Where to listen, and how an upstream is named and reached."""

from __future__ import annotations

import pytest

from config import address
from config.address import Address
from config.errors import Unreadable


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
    """Distribution's `http.addr`."""
    assert expected == address.address(text)
    assert text == str(expected)


@pytest.mark.parametrize(
    "text",
    ["5000", "", ":", ":0", ":65536", "::1:5000", "a b:1", "http://x:1", "host:http", "a/b:1"],
)
def test_what_is_no_address_says_so(text: str) -> None:
    """The remedy shows two."""
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
    """What it decides: plain HTTP to an upstream, and the warning of an open door."""
    assert expected is address.is_loopback(host)


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
    """Lower case, and all of Docker Hub's names are one."""
    assert expected == address.registry_host(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "quay.io/org", "https://quay.io", "-a.io", "a..b", "a_b", "a:0", "a:99999"]
)
def test_what_is_no_host_says_so(text: str) -> None:
    """A repository's first name is made of it."""
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
    """What the client adds is `/v2/...`."""
    assert expected == address.registry_url(text)


@pytest.mark.parametrize(
    "text", ["", "ftp://quay.io", "https://", "https://a/?b", "https://a/#b", "https://[::1", "a b"]
)
def test_what_is_no_url_says_so(text: str) -> None:
    """Every one is told in our words."""
    with pytest.raises(Unreadable, match=r"not a registry's (URL|host)"):
        address.registry_url(text)


def test_a_url_must_not_hold_a_password() -> None:
    """URLs are logged."""
    with pytest.raises(Unreadable, match="a URL with a password in it"):
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
def test_a_host_alone_says_where_it_is(host: str, expected: str) -> None:
    """HTTPS, but for this machine, as Docker does; Docker Hub's API has a host of its own."""
    assert expected == address.url_of(host)


def test_a_realm_stays_as_it_was_written() -> None:
    """It is compared with what the upstream announces."""
    assert address.realm_url("https://auth.example/token/") == "https://auth.example/token/"
