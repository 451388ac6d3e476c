"""The verifier accepts tokens with every supported algorithm and every way to name the key.

If the verifier rejects a token, the error states the reason.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.registry.auth.token_grant import Claims
from entrepot.registry.auth.token_verifier import (
    LARGEST_TOKEN,
    LEEWAY_S,
    MOST_SCOPES,
    TokenTerms,
    TokenVerifier,
    _is_a_root,
)
from entrepot.registry.challenges import Scope
from entrepot.registry.errors import InvalidToken
from entrepot.runtime.token_keys import TrustedKeys, parse_bundle, parse_jwks
from tests.token_signer import (
    ALGORITHMS,
    ISSUER,
    SERVICE,
    Signer,
    certificate_of,
    claims,
    new_key,
    signer,
)

NOW = 1_800_000_000.0
PULL = "repository:team/app:pull"
TODAY = time.time()
"""The current time in seconds since the UTC epoch; the tests' certificates are valid now."""
EVERY = frozenset(ALGORITHMS)


def _verifier(
    *keys: TrustedKeys, now: float = NOW, algorithms: frozenset[str] = EVERY
) -> TokenVerifier:
    merged = TrustedKeys()
    for each in keys:
        merged |= each
    return TokenVerifier(TokenTerms(ISSUER, SERVICE, algorithms), lambda: merged, lambda: now)


def _bundle(by: Signer) -> TrustedKeys:
    return parse_bundle(by.bundle())


def _reason(verify: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        verify(token)
    return str(caught.value)


def _valid(by: Signer, header: dict[str, Any] | None = None, **changed: Any) -> str:
    return by.sign(claims(PULL, now=NOW, **changed), header)


HEADERS: dict[str, Callable[[Signer], dict[str, Any]]] = {
    "x5c": lambda by: by.chain(),
    "jwk": lambda by: {"jwk": by.jwk()},
    "jwk with x5c": lambda by: {"jwk": by.jwk() | by.chain()},
    "kid of version 3": lambda by: by.by_id(),
    "kid of version 2": lambda by: by.by_id(-1),
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_valid_token_is_accepted_with_each_algorithm_and_name_of_the_key(
    algorithm: str, header: str
) -> None:
    """A valid token is accepted for each algorithm and each header parameter that names its key.

    The key belongs to a certificate in `rootcertbundle`.
    """
    by = signer(algorithm)

    found = _verifier(_bundle(by), now=TODAY)(by.sign(claims(PULL, now=TODAY), HEADERS[header](by)))

    assert (found.subject, found.expires) == ("ann", int(TODAY) + 300)
    assert found.covers(Scope("repository", "team/app", ("pull",)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_a_key_set_is_found_by_its_name(algorithm: str) -> None:
    """The verifier finds a token's key in a key set by `kid` or `jwk` in the token's header."""
    by = signer(algorithm)
    verify = _verifier(parse_jwks(by.jwks(kid="first")))

    for header in ({"kid": "first"}, {"jwk": by.jwk()}, {"jwk": {"kid": "first"}}):
        assert verify(_valid(by, header)).subject == "ann"


@pytest.mark.parametrize("token", ALGORITHMS)
def test_a_token_is_refused_if_its_algorithm_is_not_allowed(token: str) -> None:
    """A token is rejected if the settings do not allow its algorithm."""
    by = signer(token)
    verify = _verifier(parse_jwks(by.jwks(kid="k")), algorithms=EVERY - {token})

    assert _reason(verify, _valid(by, {"kid": "k"})) == "its algorithm is not allowed"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_that_another_key_signed_is_refused(algorithm: str) -> None:
    """A token with the signature of an unknown key is rejected, whatever key its header names."""
    good, bad = signer(algorithm), signer(algorithm, "another")
    verify = _verifier(_bundle(good), now=TODAY)
    content = claims(PULL, now=TODAY)

    for header in (
        good.by_id(),
        good.chain(),
        {"jwk": good.jwk()},
        bad.by_id(),
        bad.chain(),
        bad.chain(good),
        {"jwk": bad.jwk()},
        {"jwk": bad.jwk() | bad.chain()},
        {"jwk": bad.jwk() | good.by_id()},
        {"jwk": bad.jwk() | good.chain()},
        {},
    ):
        assert _reason(verify, bad.sign(content, header)) in {
            "its signature is wrong, or the key has another type",
            "it is signed by an unknown key",
            "its certificate chain does not end at a trusted root",
        }


def _unsigned(header: dict[str, Any], content: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(content).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_an_unsigned_token_and_a_shared_secret_are_never_accepted(
    algorithm: str, name: str
) -> None:
    """A token without a signature, or with a MAC instead of a signature, is rejected.

    Otherwise an attacker could compute a valid MAC with the public key as the secret.
    """
    by = signer(algorithm)
    verify = _verifier(_bundle(by))
    content = claims(PULL, now=NOW)
    public = by.key.public_key()
    secrets = [
        by.bundle(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ]

    for header in (by.by_id(), by.chain(), {"jwk": by.jwk()}):
        whole = {"alg": name, **header}
        assert _reason(verify, _unsigned(whole, content)) == "its algorithm is not allowed"
        for secret in secrets:
            signing_input = _unsigned(whole, content).rpartition(".")[0].encode()
            mac = hmac.digest(secret, signing_input, hashlib.sha256)
            forged = _unsigned(whole, content, mac)
            assert _reason(verify, forged) == "its algorithm is not allowed"


@pytest.mark.parametrize("declared", ALGORITHMS)
@pytest.mark.parametrize("real", ["EdDSA", "RS256", "PS256", "ES256", "ES384"])
def test_a_token_with_the_algorithm_of_another_key_type_is_refused(
    real: str, declared: str
) -> None:
    """A token is rejected if the algorithm in its header differs from that of its signature.

    The two algorithms can differ in the type of key, the curve, the RSA padding or the hash.
    """
    if real == declared:
        return
    by = signer(real)
    content = claims(PULL, now=NOW)
    honest = by.sign(content)
    forged = _unsigned({"alg": declared, **by.by_id()}, content)
    token = f"{forged.rpartition('.')[0]}.{honest.rpartition('.')[2]}"

    assert (
        _reason(_verifier(_bundle(by)), token)
        == "its signature is wrong, or the key has another type"
    )


def test_a_key_of_a_set_is_used_with_its_own_algorithm_only() -> None:
    """A key with `alg` in a key set verifies no token with another algorithm.

    See RFC 7517, 4.4.
    """
    by = Signer(signer("RS256").key, "PS256")
    verify = _verifier(parse_jwks(by.jwks(kid="k", alg="RS256")))

    assert _reason(verify, _valid(by, {"kid": "k"})) == "its algorithm differs from the key's"


def test_a_chain_is_verified_against_the_bundle() -> None:
    """The certificate chain in a token's header must lead to a certificate of `rootcertbundle`.

    In that chain, only the certificate of an authority may sign other certificates.
    """
    root = Signer(new_key("ES256"), "ES256")
    middle = Signer(new_key("ES256"), "ES256", root)
    leaf = Signer(new_key("ES256"), "ES256", middle)
    content = claims(PULL, now=TODAY)
    verify = _verifier(_bundle(root), now=TODAY)

    assert verify(leaf.sign(content, leaf.chain(middle))).subject == "ann"
    refused = "its certificate chain does not end at a trusted root"
    assert _reason(verify, leaf.sign(content, leaf.chain())) == refused
    user = Signer(new_key("ES256"), "ES256", root)
    user.certificate = certificate_of(user.key, root, is_authority=False)
    forged = Signer(new_key("ES256"), "ES256", user)
    assert verify(user.sign(content, user.chain())).subject == "ann"
    assert _reason(verify, forged.sign(content, forged.chain(user))) == refused


def test_of_authorities_with_one_subject_only_the_first_counts() -> None:
    """If several authorities in a chain have the same subject, only the first is tried.

    The time to try every combination would grow exponentially with the length of the chain.
    """
    root = Signer(new_key("ES256"), "ES256")
    middle, other = (Signer(new_key("ES256"), "ES256", root) for _ in range(2))
    other.certificate = certificate_of(other.key, root, subject=middle.certificate.subject)
    leaf = Signer(new_key("ES256"), "ES256", middle)
    content = claims(PULL, now=TODAY)
    verify = _verifier(_bundle(root), now=TODAY)

    assert verify(leaf.sign(content, leaf.chain(middle, other))).subject == "ann"
    refused = "its certificate chain does not end at a trusted root"
    assert _reason(verify, leaf.sign(content, leaf.chain(other, middle))) == refused


def test_the_validity_of_a_root_includes_its_first_and_its_last_second() -> None:
    """A root certificate is valid from notBefore through notAfter (RFC 5280, 4.1.2.5)."""
    root = Signer(new_key("ES256"), "ES256").certificate
    first, last = root.not_valid_before_utc, root.not_valid_after_utc
    second = dt.timedelta(seconds=1)

    assert [_is_a_root(root, [root], each) for each in (first, last)] == [True, True]
    assert not any(_is_a_root(root, [root], each) for each in (first - second, last + second))


@pytest.mark.parametrize("days", [(-30, -2), (10, 30)], ids=["expired", "not valid yet"])
def test_a_certificate_out_of_its_time_is_refused(days: tuple[int, int]) -> None:
    """A token is rejected if a certificate in its chain has expired or is not yet valid."""
    root = Signer(new_key("ES256"), "ES256")
    old = Signer(new_key("ES256"), "ES256", root)
    old.certificate = certificate_of(old.key, root, days=days)
    own = Signer(new_key("ES256"), "ES256")
    own.certificate = certificate_of(own.key, days=days)
    content = claims(PULL, now=TODAY)
    refused = "its certificate chain does not end at a trusted root"

    for by, trusted in ((old, root), (own, own)):
        verify = _verifier(_bundle(trusted), now=TODAY)
        assert _reason(verify, by.sign(content, by.chain())) == refused


def test_a_chain_without_a_bundle_is_refused() -> None:
    """If only a key set is configured, a token with a certificate chain is rejected.

    A key set has no root certificates to which the chain could lead.
    """
    by = signer("ES256")

    reason = _reason(_verifier(parse_jwks(by.jwks())), _valid(by, by.chain()))

    assert reason == "the token has a certificate chain, but no rootcertbundle is configured"


BY = signer("ES256")
TRUSTED = parse_jwks(BY.jwks())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "another"}, "it names another issuer"),
        ({"iss": None}, "it names another issuer"),
        ({"iss": [ISSUER]}, "it names another issuer"),
        ({"aud": "another"}, "it names another audience"),
        ({"aud": None}, "it names another audience"),
        ({"aud": ["one", "two"]}, "it names another audience"),
        ({"aud": []}, "it names another audience"),
        ({"aud": {SERVICE: 1}}, "it names another audience"),
        ({"exp": None}, "it has expired"),
        ({"exp": int(NOW) - LEEWAY_S}, "it has expired"),
        ({"exp": "1900000000"}, "malformed exp"),
        ({"exp": 1.9e9}, "malformed exp"),
        ({"exp": True}, "malformed exp"),
        ({"exp": 2**53}, "malformed exp"),
        ({"exp": -1}, "malformed exp"),
        ({"nbf": int(NOW) + LEEWAY_S + 1}, "it is not valid yet"),
        ({"nbf": "soon"}, "malformed nbf"),
        ({"sub": 7}, "malformed sub"),
        ({"sub": "x" * 1025}, "malformed sub"),
        ({"sub": "\ud800"}, "malformed sub"),
        ({"sub": "ann\r\nX-Entrepot-Rights: 1.1.1.1"}, "its claim sub has a control character"),
        ({"access": {}}, "malformed access"),
        ({"access": ["repository:a:pull"]}, "malformed access"),
        ({"access": [{"type": "repository", "name": 7, "actions": []}]}, "malformed access"),
        ({"access": [{"type": "repository", "name": "a", "actions": "pull"}]}, "malformed access"),
    ],
    ids=lambda each: str(each)[:48],
)
def test_a_claim_that_does_not_fit_refuses_the_token(changed: dict[str, Any], reason: str) -> None:
    """A token with a wrong claim is rejected, and the error states the reason."""
    assert _reason(_verifier(TRUSTED), _valid(BY, **changed)) == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["another", SERVICE]},
        {"exp": int(NOW) - LEEWAY_S + 1},
        {"nbf": int(NOW) + LEEWAY_S},
        {"nbf": None, "iat": None, "jti": None},
        {"access": None},
        {"unknown": {"a": [1, 2]}},
    ],
    ids=str,
)
def test_a_claim_within_the_leeway_and_an_absent_optional_one_are_accepted(
    changed: dict[str, Any],
) -> None:
    """A token is accepted up to 60 s outside its validity period, and without optional claims.

    The clocks of the token server and the appliance can differ. Docker distribution also allows a
    difference of 60 s.
    """
    assert _verifier(TRUSTED)(_valid(BY, **changed)).subject == "ann"


def test_a_token_without_a_user_is_accepted() -> None:
    """A token whose `sub` is empty or absent is accepted; its client has no user name."""
    verify = _verifier(TRUSTED)

    assert verify(_valid(BY, sub=None)).subject == verify(_valid(BY, user="")).subject == ""


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}])
def test_a_critical_header_refuses_the_token(header: dict[str, Any]) -> None:
    """A token with the header `crit` is rejected, because no critical extension is supported.

    See RFC 7515, 4.1.11.
    """
    content = claims(PULL, now=NOW)
    token = _unsigned({"alg": "ES256", **BY.by_id(), **header}, content, b"x" * 64)

    assert _reason(_verifier(TRUSTED), token) == "it has an unsupported critical header"


def test_the_access_of_several_entries_is_combined() -> None:
    """If a token has several access entries for a repository, their actions add up.

    The action `*` means every action. Names with a wildcard and entries of the type
    `repository(plugin)` permit nothing.
    """
    content = claims(now=NOW) | {
        "access": [
            {"type": "repository", "name": "a", "actions": ["pull"]},
            {"type": "repository", "class": "plugin", "name": "a", "actions": ["push"]},
            {"type": "repository", "name": "b", "actions": ["*"]},
            {"type": "repository", "name": "c/*", "actions": ["pull"]},
            {"type": "repository(plugin)", "name": "d", "actions": ["pull"]},
            {"type": "registry", "name": "catalog", "actions": ["*"]},
            {"type": "repository", "name": "e", "actions": None},
        ]
    }

    found = _verifier(TRUSTED)(BY.sign(content))

    assert found.covers(Scope("repository", "a", ("pull", "push")))
    assert not found.covers(Scope("repository", "a", ("delete",)))
    assert found.covers(Scope("repository", "b", ("pull", "push", "delete")))
    assert found.covers(Scope("registry", "catalog", ("*",)))
    for name in ("c/x", "d", "e"):
        assert not found.covers(Scope("repository", name, ("pull",)))
    assert found.pulled_names() == ["a", "b", "c/*"]


def test_too_large_a_token_is_refused_before_it_is_parsed() -> None:
    """A token of more than 16,384 bytes is rejected before it is parsed."""
    verify = _verifier(TRUSTED)
    many = [f"repository:team/app{number}:pull" for number in range(1000)]

    assert _reason(verify, "x" * 2**20) == "the token is longer than 16,384 bytes"
    assert (
        _reason(verify, BY.sign(claims(*many, now=NOW))) == "the token is longer than 16,384 bytes"
    )
    assert len(_valid(BY)) < LARGEST_TOKEN


def test_many_short_scopes_are_refused() -> None:
    """A token with too many access entries is rejected, even if its length is permitted."""
    content = json.dumps(claims(now=NOW) | {"access": [{}] * (MOST_SCOPES + 1)}).encode()

    assert (
        _reason(_verifier(TRUSTED), BY.sign(content))
        == f"the token has more than {MOST_SCOPES} scopes"
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 9000,
        b'{"a":' * 2000,
        b"{" + b",".join(b'"%x":0' % each for each in range(1100)) + b",}",
        b"[]",
        b"null",
        b"\xff",
        b'{"exp":1,"exp":2}',
        b'{"exp":NaN}',
        b'{"exp":' + b"9" * 5000 + b"}",
    ],
    ids=lambda each: repr(each[:12]),
)
def test_a_malformed_payload_is_refused(payload: bytes) -> None:
    """A token with a malformed payload is rejected, even if its signature is valid."""
    assert _reason(_verifier(TRUSTED), BY.sign(payload)) == "malformed payload"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30",
        "Ww.e30.",
        base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=") + ".e30.",
        "\ud800.\ud800.",
        "eyJhbGciOiJFUzI1NiJ9." + "e" * 400,
    ],
    ids=lambda each: repr(each[:16]),
)
def test_text_that_is_no_token_is_refused(token: str) -> None:
    """Text that is not a token is rejected with a reason; the verifier raises no other error."""
    assert _reason(_verifier(TRUSTED), token)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("put", ["\ud800", "é", "\n", "*"])
def test_a_segment_that_is_not_base64url_is_refused(at: int, put: str) -> None:
    """A token is rejected if its payload or signature is not strictly base64url."""
    parts = _valid(BY).split(".")
    parts[at] += put

    assert _reason(_verifier(TRUSTED), ".".join(parts)) == "it is not a JSON Web Token"


@pytest.mark.parametrize(
    "header",
    [
        {"kid": 7},
        {"kid": ["k"]},
        {"kid": {}},
        {"jwk": "x"},
        {"jwk": []},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQ"}},
        {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"jwk": {"x5c": "x"}},
        {"x5c": "x"},
        {"x5c": [7]},
        {"x5c": ["!"]},
        {"x5c": ["AAAA"]},
        {"x5c": ["AAAA"] * 9},
        {"x5c": {"0": "AAAA"}},
    ],
    ids=str,
)
def test_a_malformed_name_of_the_key_refuses_the_token(header: dict[str, Any]) -> None:
    """A token is rejected if `kid`, `jwk` or `x5c` in its header is malformed."""
    token = _unsigned({"alg": "ES256", **header}, claims(PULL, now=NOW), b"x" * 64)

    assert _reason(_verifier(TRUSTED | _bundle(BY)), token)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@pytest.mark.slow
@given(
    header=st.dictionaries(st.sampled_from(["kid", "jwk", "x5c", "typ"]), _JSON),
    content=st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "access", "pwd"]), _JSON
    ),
)
@settings(max_examples=150, deadline=None)
def test_no_content_raises_anything_but_a_refusal(
    header: dict[str, Any], content: dict[str, Any]
) -> None:
    """A token with any JSON in its header and claims is either accepted or rejected.

    The verifier raises no other error.
    """
    verify = _verifier(TRUSTED | _bundle(BY))

    for token in (
        _unsigned({"alg": "ES256", **header}, content, b"x" * 64),
        BY.sign(json.dumps({**claims(PULL, now=NOW), **content}).encode()),
    ):
        try:
            assert isinstance(verify(token), Claims)
        except InvalidToken:
            continue
