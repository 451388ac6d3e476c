"""WWW-Authenticate, and which token endpoint may be told a password."""

from __future__ import annotations

import pytest

from registry.upstream.challenge import Challenge, may_trust, parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", "x")]),
        ("Basic", [Challenge("basic")]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [Challenge("bearer", "https://a/t", "s")],
        ),
        (
            'Bearer realm="https://gcr.io/v2/token",service=gcr.io',
            [Challenge("bearer", "https://gcr.io/v2/token", "gcr.io")],
        ),
        ('bearer  Realm = "r" , SERVICE="a, b"', [Challenge("bearer", "r", "a, b")]),
        ('Bearer realm="a\\"b"', [Challenge("bearer", 'a"b')]),
        (
            'Basic realm="x", Bearer realm="y",service="z"',
            [Challenge("basic", "x"), Challenge("bearer", "y", "z")],
        ),
        (
            'Negotiate, Bearer realm="y"',
            [Challenge("negotiate"), Challenge("bearer", "y")],
        ),
        ("", []),
        ('="nonsense', []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_challenges_are_read(header: str, expected: list[Challenge]) -> None:
    """Quoted or not, one or several: RFC 9110, 11.6.1."""
    assert parse_challenges(header) == expected


@pytest.mark.parametrize(
    ("realm", "url", "trusted", "expected"),
    [
        ("https://quay.io/v2/auth", "https://quay.io", None, True),
        ("https://quay.io:8443/auth", "https://quay.io", None, True),
        ("https://auth.docker.io/token", "https://registry-1.docker.io", None, True),
        ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com", None, True),
        ("https://auth.docker.io/token", "https://quay.io", None, False),
        ("https://evil.example/token", "https://quay.io", None, False),
        ("https://quay.io.evil.example/", "https://quay.io", None, False),
        ("https://quay.io@evil.example/", "https://quay.io", None, False),
        ("https://user@quay.io/", "https://quay.io", None, False),
        ("http://quay.io/v2/auth", "https://quay.io", None, False),
        ("http://127.0.0.1:9/t", "https://127.0.0.1:5000", None, True),
        ("http://127.0.0.1:9/t", "https://quay.io", None, False),
        ("http://reg.lan/t", "http://reg.lan:5000", None, True),
        ("https://sso.corp.example/t", "https://reg.corp.example", None, False),
        (
            "https://sso.corp.example/t",
            "https://reg.corp.example",
            "https://sso.corp.example/t",
            True,
        ),
        ("https://sso.corp.example/x", "https://r.example", "https://sso.corp.example/t", False),
        ("file:///etc/passwd", "https://quay.io", None, False),
        ("/token", "https://quay.io", None, False),
        ("https://[bad/", "https://quay.io", None, False),
        ("", "https://quay.io", None, False),
    ],
)
def test_only_the_upstreams_own_realm_is_trusted(
    realm: str, url: str, trusted: str | None, *, expected: bool
) -> None:
    """Its own host, a known pair, or what the operator named; never in clear text beside TLS."""
    assert may_trust(realm, url, trusted) is expected
