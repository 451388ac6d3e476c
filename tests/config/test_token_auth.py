"""Test the settings of auth.token and auth.silly, and the files of keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.config.checks import check, remarks
from entrepot.config.signing_algorithms import ASYMMETRIC, accepted
from tests.config.config_folder import ConfigFolder
from tests.token_signer import signer

_COMPLETE = "realm: https://auth.example/token, service: s, issuer: i"


def _write(config_folder: ConfigFolder, token: str, more: str = "") -> None:
    config_folder.write(f"auth: {{token: {{{token}}}}}\n{more}")


def test_the_settings_of_a_token_server_are_read(config_folder: ConfigFolder) -> None:
    """The settings of a token server are read, with docker distribution's defaults."""
    _write(config_folder, f"{_COMPLETE}, rootcertbundle: /bundle.pem")
    token = config_folder.settings().auth.token

    assert token is not None
    assert (token.realm, token.service, token.issuer) == ("https://auth.example/token", "s", "i")
    assert (token.rootcertbundle, token.jwks) == (Path("/bundle.pem"), None)
    assert (token.autoredirect, token.autoredirectpath) == (False, "/auth/token")
    assert accepted(token.signingalgorithms) == set(ASYMMETRIC)
    assert config_folder.settings().auth.protects
    assert config_folder.warnings() == []


def test_variables_set_a_token_server(config_folder: ConfigFolder) -> None:
    """Variables configure a token server; REGISTRY_AUTH replaces the scheme of the file."""
    config_folder.write("auth: {htpasswd: {path: /p}}")
    auth = config_folder.settings(
        REGISTRY_AUTH="token",
        REGISTRY_AUTH_TOKEN_REALM="https://auth.example",
        REGISTRY_AUTH_TOKEN_SERVICE="s",
        REGISTRY_AUTH_TOKEN_ISSUER="i",
        REGISTRY_AUTH_TOKEN_JWKS="/keys.json",
        REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS="[RS256, ES256]",
        REGISTRY_AUTH_TOKEN_AUTOREDIRECT="true",
    ).auth

    assert auth.htpasswd is None
    assert auth.token is not None
    assert auth.token.autoredirect
    assert accepted(auth.token.signingalgorithms) == {"RS256", "ES256"}


@pytest.mark.parametrize("text", ["auth: token", "auth: {token: {}}", "auth: {token: }"])
def test_a_token_server_without_its_keys_is_refused(config_folder: ConfigFolder, text: str) -> None:
    """`auth.token` without realm, service, issuer or key files is refused, with a line for each.

    So an incomplete `auth.token` never lets the appliance start without authentication.
    """
    config_folder.write(text)

    problems = "\n".join(config_folder.problems())

    for name in ("realm", "service", "issuer"):
        assert f"auth.token.{name} is missing; set auth.token.{name}" in problems
    assert "auth.token has no keys; set auth.token.rootcertbundle or auth.token.jwks" in problems


def test_silly_needs_realm_and_service_and_is_a_warning(config_folder: ConfigFolder) -> None:
    """`silly` needs `realm` and `service`, and causes a warning, because it protects nothing."""
    config_folder.write("auth: {silly: {realm: r}}")
    assert config_folder.problems() == [
        "config.yml:1: auth.silly: auth.silly.service is missing; set auth.silly.service"
    ]

    config_folder.write("auth: {silly: {realm: r, service: s}}")
    assert not config_folder.settings().auth.protects
    assert any("the scheme protects nothing" in each for each in config_folder.warnings())
    config_folder.write("auth: {silly: {realm: r, service: s}}\naccess: []")
    assert any("no users are configured" in each for each in config_folder.problems())


def test_anonymous_beside_a_token_server_is_a_contradiction(config_folder: ConfigFolder) -> None:
    """`auth.anonymous` contradicts a token server, which itself decides on anonymous clients."""
    config_folder.write(f"auth: {{token: {{{_COMPLETE}, jwks: /k}}, anonymous: pull}}")

    (problem,) = config_folder.problems()
    assert "the token server decides what anonymous clients may do; take the key out" in problem


def test_rules_for_anonymous_apply_to_tokens_without_a_user(config_folder: ConfigFolder) -> None:
    """With `auth.token`, rules for `anonymous` need no other setting.

    These rules apply to tokens without a user.
    """
    rules = "access: [{user: anonymous, repository: '**', allow: pull}]"
    _write(config_folder, f"{_COMPLETE}, jwks: /k", rules)

    assert config_folder.settings().followed.access


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("[RS257]", "no accepted algorithm: 'RS257'; try [RS256]"),
        ("[none]", "no accepted algorithm: 'none'"),
        ("[HS256]", "HMAC is never accepted"),
        ("[HS256, HS512]", "HMAC is never accepted"),
        ("{a: b}", "not a list"),
    ],
)
def test_an_algorithm_that_is_never_accepted_is_refused(
    config_folder: ConfigFolder, named: str, message: str
) -> None:
    """An unacceptable signing algorithm is refused; the message suggests an accepted one."""
    _write(config_folder, f"{_COMPLETE}, jwks: /k, signingalgorithms: {named}")

    (problem,) = config_folder.problems()
    assert message in problem


def test_a_shared_secret_beside_other_algorithms_is_a_warning(config_folder: ConfigFolder) -> None:
    """HS256 (a shared secret) among other algorithms has no effect, and causes a warning."""
    _write(config_folder, f"{_COMPLETE}, jwks: /k, signingalgorithms: [ES256, HS256]")
    token = config_folder.settings().auth.token

    assert token is not None
    assert accepted(token.signingalgorithms) == {"ES256"}
    assert (
        "auth.token.signingalgorithms: the algorithm has no effect: HS256 is never accepted"
        in "".join(config_folder.warnings())
    )


def test_two_schemes_are_a_problem(config_folder: ConfigFolder) -> None:
    """Two auth schemes are a problem, as in docker distribution."""
    config_folder.write(f"auth: {{htpasswd: {{path: /p}}, token: {{{_COMPLETE}, jwks: /k}}}}")

    assert any("a second auth scheme" in each for each in config_folder.problems())


# ---- the files of keys


def _check(config_folder: ConfigFolder, key: str, path: Path) -> list[str]:
    _write(config_folder, f"{_COMPLETE}, {key}: {path}")
    settings = config_folder.settings(REGISTRYDIR=str(path.parent))
    return [str(each).partition(f"{path}: ")[2] for each in check(settings)]


@pytest.mark.parametrize("key", ["rootcertbundle", "jwks"])
def test_a_file_of_keys_that_cannot_be_read_is_a_problem(
    config_folder: ConfigFolder, tmp_path: Path, key: str
) -> None:
    """A file of keys that cannot be read is a problem.

    The path may be missing, or may be that of a folder, a pipe, or a file without keys.
    """
    missing, pipe, other = tmp_path / "missing", tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(pipe)
    other.write_text("something")

    assert _check(config_folder, key, missing)[0].startswith("no such file or directory; ")
    for path in (pipe, tmp_path / "."):
        (line,) = _check(config_folder, key, path.absolute())
        assert line.startswith("is not a regular file; ")
    (line,) = _check(config_folder, key, other)
    assert line.endswith(("write the certificates in PEM", 'write {"keys": [...]} (RFC 7517)'))


def test_usable_files_of_keys_are_no_problem(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """Usable files of keys are valid; an entry that is never used causes a warning."""
    bundle, jwks = tmp_path / "bundle.pem", tmp_path / "keys.json"
    bundle.write_bytes(signer("RS256").bundle())
    jwks.write_bytes(signer("ES256").jwks().replace(b'"keys": [', b'"keys": [{"kty": "oct"}, '))
    assert (
        _check(config_folder, "rootcertbundle", bundle) == _check(config_folder, "jwks", jwks) == []
    )

    (line,) = map(str, remarks(config_folder.settings(REGISTRYDIR=str(tmp_path))))
    assert line.endswith(
        "ignored: key 1: type 'oct' is not RSA, EC or OKP; take it out of the file"
    )
