"""Tests of `Proxies`, which chooses the proxy for a URL."""

from __future__ import annotations

import pytest

from entrepot.runtime.proxies import Proxies

PROXIES = {"https": "http://proxy:3128", "http": "other:8080"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://quay.io/v2/", "http://proxy:3128"),
        ("http://quay.io/v2/", "http://other:8080"),
        ("http://127.0.0.1:5000/", None),
        ("http://localhost/", None),
        ("http://localhost.:5000/", None),
        ("http://inner.LOCALHOST./", None),
        ("http://[::1]:5000/", None),
    ],
)
def test_the_scheme_selects_the_proxy_and_loopback_has_none(url: str, expected: str | None) -> None:
    """The scheme of a URL determines its proxy; no proxy is used for a loopback host."""
    assert Proxies(PROXIES).choose(url) == expected


@pytest.mark.parametrize(
    ("rule", "url", "exempt"),
    [
        ("*", "https://quay.io/", True),
        ("quay.io", "https://quay.io/", True),
        ("quay.io", "https://cdn.quay.io/", True),
        ("quay.io", "https://quay.io./", True),
        (".quay.io", "https://cdn.quay.io/", True),
        ("*.quay.io", "https://cdn.quay.io/", True),
        ("quay.io", "https://notquay.io/", False),
        ("QUAY.io ", "https://quay.io/", True),
        ("quay.io:443", "https://quay.io/", True),
        ("quay.io:5000", "https://quay.io/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("fd00::/8", "https://[fd00::1]/", True),
        ("", "https://quay.io/", False),
        (".", "https://quay.io/", False),
    ],
)
def test_exempt_hosts_have_no_proxy(rule: str, url: str, *, exempt: bool) -> None:
    """No proxy is used for a host that matches an exception rule.

    A rule is a domain with its subdomains, an address or a network. A domain can have a port.
    """
    assert (Proxies(PROXIES, [rule]).choose(url) is None) is exempt


def test_without_proxies_no_url_has_one() -> None:
    """If no proxy is configured, `choose` returns None for every URL."""
    assert Proxies().choose("https://quay.io/") is None
