"""Test how `entrepot doctor` requests tokens, and reports why a token is not valid."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.appliance.doctor import token_checks
from entrepot.appliance.doctor.bearer import BearerTokens
from entrepot.appliance.doctor.examination import examine
from entrepot.appliance.doctor.finding import CannotContinue, Finding, Health
from entrepot.appliance.doctor.http_client import ApplianceClient, ClientResponse, ServerAddress
from entrepot.appliance.logins import Login
from entrepot.config.schema import TokenSettings
from tests.appliance.doctor.test_examination import HEADERS, at, last
from tests.gates import TokenService
from tests.system.tokens import ISSUER, SERVICE, TokenServer
from tests.token_signer import signer
from tests.upstream import FakeUpstream

LOGIN = Login("robot", "sesame")


@pytest.fixture
def service() -> Iterator[TokenService]:
    """Run a token endpoint that needs a password."""
    with TokenService({"robot": "sesame"}) as server:
        yield server


@pytest.fixture
def registry(service: TokenService) -> Iterator[FakeUpstream]:
    """Run a registry that requires tokens, and otherwise responds as an appliance does."""
    with FakeUpstream(gate=service) as server:
        server.misbehave("", headers=HEADERS)
        server.add_image("one.test/app", "v1", [b"layer"])
        server.add_image("app", "v1", [b"layer"])
        yield server


@pytest.fixture
def issuing() -> Iterator[TokenServer]:
    """Run a token server that signs its tokens."""
    with TokenServer("robot:sesame") as server:
        yield server


def settings(folder: Path, server: TokenServer, **changed: Any) -> TokenSettings:
    """Return the settings `auth.token` for the token server *server*, modified by *changed*."""
    bundle = folder / "tokens.pem"
    bundle.write_bytes(server.pair.pem())
    given = {
        "realm": server.realm,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": bundle,
        **changed,
    }
    return TokenSettings().changed(**given)


def challenging(server: TokenServer) -> FakeUpstream:
    """Return a registry whose challenge names the token server *server*."""

    class Gate:
        def challenge(self, _: object) -> str:
            return f'Bearer realm="{server.realm}",service="{SERVICE}"'

    return FakeUpstream(gate=Gate())


def first(registry: FakeUpstream) -> ClientResponse:
    """Return the registry's response to a client without a login."""
    host, _, port = registry.host.partition(":")
    return ApplianceClient(ServerAddress(host, int(port), host)).request("GET", "/v2/")


def checked(server: TokenServer, found: TokenSettings, login: Login | None = LOGIN) -> Finding:
    """Return the finding of `doctor` about a token from *server*."""
    with challenging(server) as registry:
        finding = token_checks.token(first(registry), BearerTokens(login, None), found)
    assert finding is not None
    return finding


def test_every_pull_uses_a_token_of_the_realm(
    registry: FakeUpstream, service: TokenService
) -> None:
    """With a login `doctor` gets a token for each scope, and pulls by every route."""
    report = examine(replace(at(registry.host), login=LOGIN), time.time())

    assert [each.what for each in report.findings] == ["registry", "token", "login", "prefix", "ns"]
    assert report.is_well
    assert f"{service.realm} answers in" in report.findings[1].why


def test_without_a_login_a_realm_that_requires_one_is_no_failure(registry: FakeUpstream) -> None:
    """If the realm works but requires a login, the missing password is the only failure."""
    report = examine(at(registry.host), time.time())

    assert report.findings[1].verdict is Health.NOT_TRIED
    assert last(report)[:2] == ("login", Health.FAILS)


def test_a_login_that_the_realm_refuses_ends_the_checks(registry: FakeUpstream) -> None:
    """The finding about a refused login has the realm and the status, but not the password."""
    report = examine(replace(at(registry.host), login=Login("robot", "guess")), time.time())

    assert last(report)[:2] == ("token", Health.FAILS)
    assert "issues no token: 401" in last(report)[2]
    assert "guess" not in repr(report)


def test_a_realm_that_does_not_answer_ends_the_checks() -> None:
    """If the token server is down, `doctor` reports this before it tries a pull."""
    with TokenServer("robot:sesame") as server, challenging(server) as registry:
        response = first(registry)

    with pytest.raises(CannotContinue, match="does not answer: connection refused"):
        token_checks.token(response, BearerTokens(LOGIN, None), None)


def test_a_token_of_the_realm_is_verified_as_the_appliance_does(
    issuing: TokenServer, tmp_path: Path
) -> None:
    """`doctor` reports the remaining lifetime of a token that the configured keys verify."""
    found = checked(issuing, settings(tmp_path, issuing))

    assert found.verdict is Health.WORKS
    assert "its token is accepted" in found.why


@pytest.mark.parametrize(
    ("changed", "reason", "remedy"),
    [
        ({"issuer": "other"}, "another issuer", "auth.token.issuer"),
        ({"signingalgorithms": ("RS256",)}, "algorithm is not allowed", "signingalgorithms"),
    ],
    ids=["issuer", "algorithm"],
)
def test_a_token_that_the_appliance_would_refuse_is_a_failure(
    issuing: TokenServer, tmp_path: Path, changed: dict[str, Any], reason: str, remedy: str
) -> None:
    """For a token that the appliance would refuse, `doctor` reports the reason and the setting."""
    with pytest.raises(CannotContinue, match=reason) as caught:
        checked(issuing, settings(tmp_path, issuing, **changed))

    assert remedy in caught.value.remedy


def test_a_token_of_an_unknown_key_names_the_files_of_keys(
    issuing: TokenServer, tmp_path: Path
) -> None:
    """For a token signed with an unknown key, the remedy names the setting of the key files."""
    other = tmp_path / "other.pem"
    other.write_bytes(signer("RS256").bundle())

    with pytest.raises(CannotContinue) as caught:
        checked(issuing, settings(tmp_path, issuing, rootcertbundle=other))

    assert "rootcertbundle" in caught.value.remedy


def test_the_keys_are_counted_by_their_type(issuing: TokenServer, tmp_path: Path) -> None:
    """The finding counts the certificates, and by type the keys of the bundle and the JWKS file."""
    jwks = tmp_path / "keys.json"
    jwks.write_bytes(signer("RS256").jwks(kid="one"))
    found = token_checks.keys(settings(tmp_path, issuing, jwks=jwks))

    assert found.verdict is Health.WORKS
    assert found.why == "1 certificates; keys: 1 EC, 1 RSA"


def test_an_algorithm_without_a_key_is_named(tmp_path: Path, issuing: TokenServer) -> None:
    """`doctor` names an accepted algorithm if no key can verify tokens with this algorithm."""
    jwks = tmp_path / "keys.json"
    jwks.write_bytes(signer("RS256").jwks(kid="one"))
    found = token_checks.keys(
        settings(
            tmp_path,
            issuing,
            rootcertbundle=None,
            jwks=jwks,
            signingalgorithms=("RS256", "ES256"),
        )
    )

    assert found.verdict is Health.FELL_BACK
    assert "there is no key for ES256" in found.why


def test_a_file_of_keys_that_does_not_load_is_a_failure(
    tmp_path: Path, issuing: TokenServer
) -> None:
    """A missing or unusable file of keys ends the checks, and the failure names the cause."""
    broken = tmp_path / "broken.json"
    broken.write_text("{}")

    with pytest.raises(CannotContinue, match="not a JSON Web Key Set"):
        token_checks.keys(settings(tmp_path, issuing, jwks=broken))
    with pytest.raises(CannotContinue, match="absent"):
        token_checks.keys(settings(tmp_path, issuing, jwks=tmp_path / "absent"))


@pytest.mark.parametrize("realm", ["ftp://h/t", "http://", "nothing"])
def test_a_realm_that_is_no_url_is_a_failure(realm: str) -> None:
    """`doctor` reports a realm that is not a URL as a failure, because no client could use it."""
    with pytest.raises(CannotContinue, match="is not a URL"):
        BearerTokens(None, None).token(f'Bearer realm="{realm}",service="s"')
