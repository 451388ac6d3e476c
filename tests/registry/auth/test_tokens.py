"""Clients authenticate with tokens; workers remember verified tokens and reload files of keys."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from entrepot.datastore.refs import Repository
from entrepot.registry.auth.identity import Identity, LoginSource
from entrepot.registry.auth.key_files import KeyFiles, _bounded
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.registry.auth.token_verifier import TokenTerms, TokenVerifier
from entrepot.registry.auth.tokens import TokenAuthenticator, TokensOnly, owner_by_rules
from entrepot.registry.auth.verified_tokens import VerifiedTokens
from entrepot.registry.challenges import BearerChallenge, ChallengedRequest, Scope
from entrepot.registry.errors import Forbidden, Unauthenticated
from entrepot.runtime.token_keys import (
    MAX_BYTES,
    TrustedKeys,
    UnusableKeys,
    parse_bundle,
    parse_jwks,
)
from tests.token_signer import ISSUER, SERVICE, Signer, claims, signer

BY = signer("ES256")
CHALLENGE = BearerChallenge("https://auth.test/token", SERVICE)
APP, OTHER = Repository.parse("team/app"), Repository.parse("team/other")


@dataclass
class Time:
    """A clock that returns the time that the test has set, in seconds since the UTC epoch."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        """Return the time that the test has set, in seconds since the UTC epoch."""
        return self.now


@dataclass
class Counted:
    """A token verifier that counts its calls.

    A test increments `generation` to simulate changed keys.
    """

    verify: TokenVerifier
    times: int = 0
    generation: int = 1

    def __call__(self, token: str) -> object:
        """Verify *token*, and count the call."""
        self.times += 1
        return self.verify(token)


@dataclass
class TokenAuthentication:
    """An authenticator for tokens; the test sets its clock and counts its verifications."""

    rules: AccessRules | None = None
    clock: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        keys = parse_jwks(BY.jwks(kid="k"))
        terms = TokenTerms(ISSUER, SERVICE, frozenset({"ES256"}))
        self.counted = Counted(TokenVerifier(terms, lambda: keys, self.clock))
        grants = VerifiedTokens(
            self.counted,  # type: ignore[arg-type]  # it returns what the verifier returns
            CHALLENGE,
            generation=lambda: self.counted.generation,
            clock=self.clock,
            most=4000,
        )
        self.authenticator = TokenAuthenticator(
            grants, owner_by_rules(lambda: self.rules), TokensOnly(CHALLENGE), CHALLENGE
        )

    def token(self, *scopes: str, **changed: object) -> str:
        """Return a valid token with the *scopes*."""
        return BY.sign(claims(*scopes, now=self.clock.now, **changed))  # type: ignore[arg-type]

    def identify(self, *scopes: str, **changed: object) -> Identity:
        """Return the identity of a client that sends a token with the *scopes*."""
        return self.authenticator.identify(f"Bearer {self.token(*scopes, **changed)}")


def _header(act: Callable[[], object]) -> str:
    with pytest.raises(Unauthenticated) as caught:
        act()
    assert not isinstance(caught.value.challenge, str)
    return caught.value.challenge.header(ChallengedRequest())


def test_a_client_without_a_token_has_no_right() -> None:
    """A request without a token gets a challenge without an `error` parameter."""
    identity = TokenAuthentication().authenticator.identify(None)

    assert not identity.has_wrong_credentials
    header = _header(lambda: identity.require("pull", APP))
    assert header == f'Bearer realm="https://auth.test/token",service="{SERVICE}"'
    assert _header(identity.require_login) == _header(identity.require_access) == header


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        ("Bearer nonsense", "invalid_token"),
        ("bearer a.b.c", "invalid_token"),
        ("Bearer x y", "invalid_token"),
        ("Basic YW5uOnJpZ2h0", None),
        ("Bearer", None),
        ("Negotiate abc", None),
    ],
)
def test_a_wrong_credential_is_challenged(authorization: str, error: str | None) -> None:
    """A request with an invalid credential gets a challenge.

    As in docker distribution, the challenge has `error="invalid_token"` only for an invalid token.
    """
    identity = TokenAuthentication().authenticator.identify(authorization)

    assert identity.has_wrong_credentials
    assert identity.refusal
    header = _header(lambda: identity.require("pull", APP))
    assert header.partition(",error=")[2] == (f'"{error}"' if error else "")


def test_a_token_gives_the_rights_of_its_user() -> None:
    """A client can use the scopes that its token lists; a request for others gets a challenge."""
    identity = TokenAuthentication().identify("repository:team/app:pull,push")

    assert (identity.user, identity.is_open) == ("ann", False)
    assert identity.token is not None
    identity.require("push", APP)
    identity.require_login()
    identity.require_access()
    identity.token.require([Scope("repository", "team/app", ("pull", "push"))])
    narrow = identity.token
    header = _header(lambda: narrow.require([Scope("repository", "team/app", ("delete",))]))
    assert header.endswith(',error="insufficient_scope"')


def test_a_token_without_a_user_is_a_login() -> None:
    """A token without `sub` is accepted as a login, although its client has no user name."""
    identity = TokenAuthentication().identify("repository:team/app:pull", sub=None)

    assert identity.user is None
    identity.require_login()
    identity.require("pull", APP)


def test_the_access_rules_limit_a_token() -> None:
    """A token permits an action only if the access rules also permit it to the token's user.

    Otherwise the client gets 403.
    """
    authentication = TokenAuthentication(
        AccessRules(
            [
                AccessGrant(("ann",), ("team/app",), frozenset({"pull"})),
                AccessGrant(("anonymous",), ("free",), frozenset({"pull"})),
            ]
        )
    )
    ann = authentication.identify("repository:team/app:*", "repository:team/other:*")
    unnamed = authentication.identify("repository:team/app:*", sub=None)

    ann.require("pull", APP)
    for identity, action, repository in (
        (ann, "push", APP),
        (ann, "pull", OTHER),
        (unnamed, "pull", APP),
    ):
        with pytest.raises(Forbidden):
            identity.require(action, repository)  # type: ignore[arg-type]  # a valid action
    unnamed.require("pull", Repository.parse("free"))


def test_the_rights_class_of_a_token_depends_on_what_it_may_pull_only() -> None:
    """The rights class of a token depends only on the repositories from which it permits pulls.

    The user, other actions, the order of scopes and the lifetime do not change the class.
    """
    authentication = TokenAuthentication()
    same = authentication.identify("repository:a:pull", "repository:b:pull").rights_class

    for scopes, changed in (
        (("repository:b:pull,push", "repository:a:pull,delete"), {}),
        (("repository:a:*", "repository:b:*"), {"user": "bob"}),
        (("repository:a:pull", "repository:b:pull", "registry:catalog:*"), {"sub": None}),
        (("repository:a:pull", "repository:a:push", "repository:b:pull"), {"lifetime": 7}),
        (("repository:a:pull", "repository:b:pull", "repository:c:push"), {"aud": [SERVICE]}),
    ):
        assert authentication.identify(*scopes, **changed).rights_class == same, scopes
    others = [("repository:a:pull",), ("repository:ab:pull",), ("repository:a\nb:pull",), ()]
    found = [authentication.identify(*scopes).rights_class for scopes in others]
    assert len({same, *found}) == len(others) + 1


def test_the_rights_class_of_a_token_depends_on_the_rules_of_its_user() -> None:
    """The rights class of a token depends on the access rules of the token's user.

    If the tokens of two users list the same scopes, access rules can still permit only one of the
    users to pull a repository.
    """
    authentication = TokenAuthentication(
        AccessRules(
            [
                AccessGrant(("ann", "bob"), ("team/app",), frozenset({"pull"})),
                AccessGrant(("bob",), ("team/app",), frozenset({"push"})),
                AccessGrant(("carol",), ("team/**",), frozenset({"pull"})),
            ]
        )
    )
    scope = "repository:team/app:*"
    ann, bob, carol = (
        authentication.identify(scope, user=user) for user in ("ann", "bob", "carol")
    )

    assert ann.rights_class == bob.rights_class != carol.rights_class
    assert ann.rights_class != Identity("ann", frozenset({"pull"})).rights_class


def test_a_token_is_verified_once_until_it_expires() -> None:
    """A worker verifies a token once until it expires, and for the next 60 s at each request.

    These 60 s allow for a difference between the clocks of the token server and the appliance.
    """
    authentication = TokenAuthentication()
    header = f"Bearer {authentication.token(lifetime=100)}"
    for seconds, times in ((0, 1), (50, 1), (99.9, 1), (100, 2), (100, 3), (159, 4)):
        authentication.clock.now = 1_800_000_000.0 + seconds
        assert authentication.authenticator.identify_verified(header).user == "ann"
        assert authentication.counted.times == times, seconds

    authentication.clock.now += 2
    assert (
        authentication.authenticator.identify_verified(header).refusal
        == "the token was refused: it has expired"
    )


def test_a_token_is_verified_again_after_a_change_of_the_keys() -> None:
    """After the keys have changed, a worker verifies a remembered token again.

    The token's key may have been removed by the change.
    """
    authentication = TokenAuthentication()
    header = f"Bearer {authentication.token()}"
    authentication.authenticator.identify(header)

    authentication.counted.generation += 1
    authentication.authenticator.identify(header)
    authentication.authenticator.identify(header)

    assert authentication.counted.times == 2


def test_the_memory_of_tokens_is_bounded_by_their_size() -> None:
    """If the remembered tokens exceed a total size, the worker forgets the oldest tokens.

    In this test about eight tokens fit within the limit.
    """
    authentication = TokenAuthentication()
    headers = [f"Bearer {authentication.token(jti=str(number))}" for number in range(20)]
    for header in headers:
        authentication.authenticator.identify(header)

    authentication.authenticator.identify(headers[-1])
    assert authentication.counted.times == 20
    authentication.authenticator.identify(headers[0])
    assert authentication.counted.times == 21


# ---- tests of the key files


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000 + len(content)))
    return path


def test_the_keys_of_both_files_are_trusted_and_followed(tmp_path: Path) -> None:
    """A worker uses the keys from the bundle and from the key set, and rereads each changed file.

    If a changed file has no usable key, the worker continues to use the previous keys.
    """
    bundle = _write(tmp_path / "bundle.pem", signer("RS256").bundle())
    jwks = _write(tmp_path / "keys.json", BY.jwks(kid="old"))
    files = KeyFiles(bundle, jwks, tmp_path)
    before = files.generation
    assert signer("RS256").by_id(-1)["kid"] in files().by_id
    assert "old" in files().by_id

    _write(jwks, signer("EdDSA").jwks(kid="new"))
    files.refresh()
    assert files.generation > before
    assert {"old", "new"} & files().by_id.keys() == {"new"}
    assert files().roots

    _write(jwks, b'{"keys": []}')
    files.refresh()
    assert "new" in files().by_id
    assert "new" in KeyFiles(bundle, jwks, tmp_path)().by_id


def test_little_more_of_a_file_is_read_than_is_accepted(tmp_path: Path) -> None:
    """A worker reads one byte more than the limit from a huge key file, and then rejects it."""
    huge = tmp_path / "keys.json"
    with huge.open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(UnusableKeys, match=f"larger than {MAX_BYTES} bytes"):
        KeyFiles(None, huge)
    with _bounded(huge) as file:
        assert len(file.read()) == MAX_BYTES + 1


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    """If a pipe replaces a key file, the worker does not block when it opens the pipe.

    The worker continues to use the previous keys.
    """
    jwks = _write(tmp_path / "keys.json", BY.jwks(kid="k"))
    files = KeyFiles(None, jwks, tmp_path)
    jwks.unlink()
    os.mkfifo(jwks)
    os.utime(jwks, (1_000_000_000, 1_000_000_000))

    files.refresh()

    assert "k" in files().by_id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON Web Key Set"),
        (b"[]", "not a JSON Web Key Set"),
        (b'{"keys": {}}', "not a JSON Web Key Set"),
        (b"[" * 3000, "not a JSON Web Key Set"),
        (b'{"keys":[' + b"{}," * 1001 + b"{}]}", "more than 1000 keys"),
        (b'{"keys":[' + b"[[[[[" * 1000, "more than 1000 keys"),
        (b" " * (MAX_BYTES + 1), "larger than"),
        (b'{"keys": []}', "the file has no usable key"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}]}', "is not RSA, EC or OKP"),
        (b'{"keys": [7]}', "not a key"),
        (b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}', "no usable key"),
        (b'{"keys": [{"kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ"}]}', "no usable key"),
        (b'{"keys": [{"kty": "OKP", "crv": "X25519", "x": "AQ"}]}', "no usable key"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_an_unusable_key_set_is_refused(content: bytes, message: str) -> None:
    """A key set without a usable key is rejected with a reason.

    A shared secret in a key set is not a usable key.
    """
    with pytest.raises(UnusableKeys, match=message):
        parse_jwks(content)


def test_unusable_keys_beside_a_usable_one_are_skipped() -> None:
    """Keys that cannot verify tokens, such as keys for encryption, are skipped.

    If a key set contains a private key, only the public part of the key is used.
    """
    entries = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        signer("ES384").jwk(use="enc", kid="encrypts"),
        BY.jwk(kid="good", use="sig", d="c2VjcmV0"),
    ]

    found = parse_jwks(json.dumps({"keys": entries}).encode())

    assert {"shared", "encrypts", "good"} & found.by_id.keys() == {"good"}
    assert found.by_id["good"].key == BY.key.public_key()
    assert len(found.skipped) == 2
    assert TrustedKeys() | found == found


def test_a_weak_key_of_the_bundle_verifies_nothing() -> None:
    """An RSA key of 1024 bits in the bundle is skipped: RFC 7518, 3.3 requires at least 2048."""
    weak = Signer(rsa.generate_private_key(65537, 1024), "RS256")
    found = parse_bundle(weak.bundle())

    assert found.by_id == {}
    assert found.skipped == ("certificate 1: RSA key of 1024 bits, not 2048 to 16384",)


def test_a_token_that_is_verified_again_counts_once() -> None:
    """If a token is verified again after each change of the keys, it is remembered only once.

    Otherwise copies of one token would displace all other tokens, and workers would verify the
    other tokens at each request.
    """
    authentication = TokenAuthentication()
    header = f"Bearer {authentication.token()}"
    for _ in range(20):
        authentication.counted.generation += 1
        authentication.authenticator.identify(header)
    other = f"Bearer {authentication.token(jti='other')}"
    for _ in range(2):
        authentication.authenticator.identify(other)
        authentication.authenticator.identify(header)

    assert authentication.counted.times == 21


def test_a_password_where_only_tokens_are_accepted_is_wrong_from_any_address() -> None:
    """A registry that accepts only tokens treats every password as wrong.

    The client's address makes no difference.
    """
    authenticator = TokenAuthentication().authenticator
    identity = authenticator.identify_from("Basic YW5uOnJpZ2h0", LoginSource("192.0.2.1"))

    assert identity.has_wrong_credentials
    assert _header(lambda: identity.require("pull", APP)).startswith("Bearer ")
