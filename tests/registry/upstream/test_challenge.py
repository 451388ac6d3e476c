"""The client parses WWW-Authenticate and decides which token endpoints receive a password."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.registry.upstream.challenge import Challenge, may_trust, parse_challenges
from tests.expressions import growth
from tests.sizes import scaled


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", "x")]),
        ("Basic", [Challenge("basic")]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [Challenge("bearer", "https://a/t", "s", "repository:a/b:pull,push")],
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
        ('Bearer realm="a', [Challenge("bearer")]),
        ('Basic realm="a" x', [Challenge("basic", "a"), Challenge("x")]),
        ("Basic!", []),
        ('realm="a"', []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_challenges_are_parsed(header: str, expected: list[Challenge]) -> None:
    """The parser returns each challenge of the header, with quoted or unquoted values.

    See RFC 9110, 11.6.1.
    """
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
    """The client sends a password only to a trusted token endpoint.

    An endpoint is trusted if it is on the upstream's host, on a host that is known to belong to the
    upstream, or named by the setting `realm`. If the upstream uses https, the endpoint must also
    use https.
    """
    assert may_trust(realm, url, trusted) is expected


@given(st.text(alphabet='Ba_-,="\\ \t;realmservic!', max_size=60))
@settings(max_examples=scaled(50, 300))
def test_no_header_raises(text: str) -> None:
    """Any text in WWW-Authenticate is parsed without an error, and each challenge has a scheme."""
    assert all(each.scheme for each in parse_challenges(text))


@given(
    st.lists(
        st.tuples(st.sampled_from(["basic", "bearer"]), st.text(max_size=9), st.text(max_size=9)),
        max_size=3,
    )
)
@settings(max_examples=scaled(25, 100))
def test_well_formed_challenges_are_read_back(challenges: list[tuple[str, str, str]]) -> None:
    """The parser restores the original values from quoted strings with escaped characters.

    See RFC 9110, 5.6.4.
    """

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} realm={quoted(realm)}, service={quoted(service)}"
        for scheme, realm, service in challenges
    )

    assert parse_challenges(header) == [Challenge(*each) for each in challenges]


@pytest.mark.parametrize(
    "piece", ["a", " ", ",", "a ", "a,", "a=", 'a="', "a=a ", '"', "\\", 'a a="\\', ' ,a=",']
)
@pytest.mark.parametrize("start", ["", "Bearer ", 'Bearer a="'])
def test_parsing_a_challenge_takes_linear_time(start: str, piece: str) -> None:
    """The time to parse a challenge grows linearly with its length.

    With quadratic time, a challenge of 60,000 characters could block all clients for a minute.
    """
    assert growth(parse_challenges, piece, start) < 4
