"""Tests of the origin and the authority of a URL."""

from __future__ import annotations

import pytest

from entrepot.runtime.urls import RawOrigin, authority_of, raw_origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Registry.Example/v2/", RawOrigin("https", "registry.example", 443)),
        ("http://registry.example", RawOrigin("http", "registry.example", 80)),
        ("HTTP://user:pw@registry.example:5000/", RawOrigin("http", "registry.example", 5000)),
        ("https://[2001:DB8::1]:8443/", RawOrigin("https", "2001:db8::1", 8443)),
        ("socks5://proxy", RawOrigin("socks5", "proxy", 443)),
        ("/v2/", RawOrigin("", "", 443)),
    ],
)
def test_an_origin_has_a_scheme_a_host_and_a_port(url: str, origin: RawOrigin) -> None:
    """An origin has the URL's host in lower case, and the scheme's port if the URL has none."""
    assert raw_origin_of(url) == origin


@pytest.mark.parametrize("url", ["https://host:99999/", "https://host:port/", "https://[::1/"])
def test_an_invalid_port_or_host_is_an_error(url: str) -> None:
    """A URL with a port above 65535, a port of letters or an unclosed bracket raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        raw_origin_of(url)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://registry.example/v2/", "registry.example"),
        ("https://user:p@ss@registry.example:5000", "registry.example:5000"),
        ("https://[::1]:5000/", "[::1]:5000"),
    ],
)
def test_an_authority_has_no_user_and_password(url: str, authority: str) -> None:
    """The authority of a URL is its host and port; user and password are removed."""
    assert authority_of(url) == authority
