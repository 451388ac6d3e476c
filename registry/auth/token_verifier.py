"""Verify bearer tokens: JSON Web Tokens of a token server (distribution's `auth.token`).

PyJWT verifies signatures and cryptography verifies chains of certificates. The token verifier
selects the key of a token, as docker distribution does, and compares the claims with the settings.
The algorithm that a token names must be one of the configured algorithms and must fit the type of
the key. So no token can make the verifier use a public key as the shared secret of an HMAC.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification

from entrepot.datastore import bounded_json
from entrepot.registry.auth.token_grant import Access, Claims
from entrepot.registry.errors import InvalidToken
from entrepot.runtime.token_keys import (
    PublicKey,
    SigningKey,
    TrustedKeys,
    UnusableKeys,
    key_ids,
    key_problem,
    load_jwk,
    public_key,
)

LEEWAY_S: Final = 60
"""Clocks may differ by this many seconds, as in docker distribution (RFC 7519, 4.1.4)."""
LARGEST_TOKEN: Final = 16_384
"""A token with more bytes is rejected; HAProxy and gunicorn have a lower limit for a header."""
MOST_SCOPES: Final = 500
"""The registry accepts at most this many entries of the claim `access`."""

_LARGEST_CHAIN: Final = 8  # The header x5c has at most this many certificates.
_LARGEST_DEPTH: Final = 4  # A chain has at most this many intermediate certificates.
_MOST_VALUES: Final = 8 * MOST_SCOPES
# HAProxy and JSON parsers read all integers below this limit in the same way.
_POSITIVE: Final = 2**53
# If a token's header has at most this many characters, its parsed form is cached for later tokens
# with the same header.
_SHORT_HEADER: Final = 512
_LONGEST_SUBJECT: Final = 1024  # The claim `sub` has at most this many characters.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """A `TokenTerms` states the issuer, audience and algorithms that a token must have."""

    issuer: str
    service: str
    algorithms: frozenset[str]


class TokenVerifier:
    """A `TokenVerifier` verifies tokens with the current *keys*.

    *clock* returns seconds since the UTC epoch. Thread-safe. InvalidToken is the only exception
    that an invalid token can cause.
    """

    def __init__(
        self,
        terms: TokenTerms,
        keys: Callable[[], TrustedKeys],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._terms = terms
        self._keys = keys
        self._clock = clock
        # PERF: PyJWT's own decoding of a token takes longer than the verification of RS256, so this
        # module decodes tokens itself.
        known = jwt.algorithms.get_default_algorithms()
        self._signatures = {name: known[name] for name in terms.algorithms}

    def __call__(self, token: str) -> Claims:
        """Return the claims of a valid token. Raises: InvalidToken with the reason."""
        if len(token) > LARGEST_TOKEN:
            raise InvalidToken("the token is longer than 16,384 bytes")
        signed, dot, signature = token.rpartition(".")
        head, second, payload = signed.partition(".")
        if not dot or not second:
            raise InvalidToken("it is not a JSON Web Token")
        algorithm, header = self._header(head)
        key = self._signing_key(header)
        if key.algorithm not in {None, algorithm}:
            raise InvalidToken("its algorithm differs from the key's")
        content, code = _decoded(payload), _decoded(signature)
        self._verify(signed.encode(), code, key.key, algorithm)
        claims = _json(content, "payload")
        self._compare(claims)
        return _claims(claims)

    def _header(self, head: str) -> tuple[str, Mapping[str, Any]]:
        header = _known_header(head) if len(head) <= _SHORT_HEADER else _parsed_header(head)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._signatures:
            raise InvalidToken("its algorithm is not allowed")
        if "crit" in header or "b64" in header:
            raise InvalidToken("it has an unsupported critical header")
        return algorithm, header

    def _verify(self, signed: bytes, signature: bytes, key: PublicKey, algorithm: str) -> None:
        """Raise an error if the token's signature is wrong. Raises: InvalidToken.

        PyJWT's `prepare_key` checks that the key's type and curve fit the algorithm.
        """
        verifier = self._signatures[algorithm]
        try:
            prepared = verifier.prepare_key(key)
            is_right = verifier.verify(signed, prepared, signature)
        except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
            is_right = False
        if not is_right:
            raise InvalidToken("its signature is wrong, or the key has another type")

    def _signing_key(self, header: Mapping[str, Any]) -> SigningKey:
        """Return the trusted key that a token's header names by x5c, jwk or kid, in this order."""
        trusted = self._keys()
        chain, jwk, name = header.get("x5c"), header.get("jwk"), header.get("kid")
        if chain:
            return self._of_chain(chain, trusted)
        if jwk is not None:
            return self._of_jwk(jwk, trusted)
        if isinstance(name, str) and name in trusted.by_id:
            return trusted.by_id[name]
        raise InvalidToken("it is signed by an unknown key")

    def _of_jwk(self, jwk: object, trusted: TrustedKeys) -> SigningKey:
        """Return the trusted key that equals the key in a token's header, or has that key's name.

        The verifier never uses the key in a token's header itself, because anyone can write a key
        there.
        """
        if not isinstance(jwk, dict):
            raise InvalidToken("malformed jwk")
        if chain := jwk.get("x5c"):
            return self._of_chain(chain, trusted)
        try:
            names = key_ids(load_jwk(jwk))
        except UnusableKeys:
            names = []
        if isinstance(jwk.get("kid"), str):
            names.append(jwk["kid"])
        for name in names:
            if name in trusted.by_id:
                return trusted.by_id[name]
        raise InvalidToken("it is signed by an unknown key")

    def _of_chain(self, chain: object, trusted: TrustedKeys) -> SigningKey:
        """Return the key of a chain's first certificate, if the chain ends at a trusted root."""
        certificates = _certificates(chain)
        if not trusted.roots:
            raise InvalidToken(
                "the token has a certificate chain, but no rootcertbundle is configured"
            )
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        leaf = certificates[0]
        if not _is_a_root(leaf, trusted.roots, now):
            _verify_chain(certificates, trusted.roots, now)
        key = public_key(leaf)
        if problem := key_problem(key):
            raise InvalidToken(f"the certificate has an unusable key: {problem}")
        assert isinstance(key, PublicKey)  # noqa: S101 - key_problem has checked it
        return SigningKey(key)

    def _compare(self, claims: Mapping[str, Any]) -> None:
        """Compare the token's issuer, audience and times with the settings and the clock.

        Raises: InvalidToken.
        """
        if claims.get("iss") != self._terms.issuer:
            raise InvalidToken("it names another issuer")
        audience = claims.get("aud")
        accepted = audience if isinstance(audience, list) else [audience]
        if self._terms.service not in accepted:
            raise InvalidToken("it names another audience")
        now = self._clock()
        if _time(claims, "exp") + LEEWAY_S <= now:
            raise InvalidToken("it has expired")
        if _time(claims, "nbf") - LEEWAY_S > now:
            raise InvalidToken("it is not valid yet")


def _verify_chain(
    chain: list[x509.Certificate], roots: tuple[x509.Certificate, ...], now: dt.datetime
) -> None:
    """Verify a certificate chain with any extended key usage, as docker distribution does.

    Raises: InvalidToken.

    cryptography's policies for web servers would demand names and usages that certificates for
    tokens do not have. The certificate of an authority must have CA:TRUE in its basic constraints.
    If several authorities have the same subject, only the first of them in the chain is used.
    """
    authorities = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
    )
    try:
        policy = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .time(now)
            .max_chain_depth(_LARGEST_DEPTH)
            .extension_policies(
                ca_policy=authorities, ee_policy=verification.ExtensionPolicy.permit_all()
            )
        )
        # PERF: only one certificate of each subject is used. With several certificates of one
        # subject, cryptography would try every order, which takes up to 60 ms.
        others = {each.subject: each for each in reversed(chain[1:])}
        policy.build_client_verifier().verify(chain[0], list(others.values()))
    except (verification.VerificationError, ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidToken("its certificate chain does not end at a trusted root") from None


def _is_a_root(leaf: x509.Certificate, roots: Iterable[x509.Certificate], now: dt.datetime) -> bool:
    """Return whether *leaf* is valid at *now* and is itself a trusted root (self-signed)."""
    is_valid = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
    return is_valid and leaf in roots


def _certificates(chain: object) -> list[x509.Certificate]:
    """Return the certificates in a token's `x5c` (RFC 7515, 4.1.6). Raises: InvalidToken."""
    if not isinstance(chain, list) or len(chain) > _LARGEST_CHAIN:
        raise InvalidToken("malformed x5c")
    try:
        return [
            x509.load_der_x509_certificate(base64.b64decode(each, validate=True)) for each in chain
        ]
    except (ValueError, TypeError):
        raise InvalidToken("malformed x5c") from None


def _parsed_header(head: str) -> Mapping[str, Any]:
    return _json(_decoded(head), "header")


# PERF: all tokens of a key usually have the same header, so its parsed form is cached. A header
# with a certificate chain is too long for this cache.
_known_header = lru_cache(128)(_parsed_header)


def _decoded(segment: str) -> bytes:
    """Decode a base64 segment of the token (RFC 7515, 2). Raises: InvalidToken."""
    try:
        padded = f"{segment}{'=' * (-len(segment) % 4)}".encode()
        return binascii.a2b_base64(padded.translate(_STANDARD), strict_mode=True)
    except ValueError:
        raise InvalidToken("it is not a JSON Web Token") from None


def _json(content: bytes, what: str) -> Mapping[str, Any]:
    """Parse a JSON object of the token.

    Refuse a repeated key, because parsers handle repeated keys differently.
    """
    try:
        found = bounded_json.loads(content, _MOST_VALUES, unique=True)
    except ValueError:
        raise InvalidToken(f"malformed {what}") from None
    if not isinstance(found, dict):
        raise InvalidToken(f"malformed {what}")
    return found


def _time(claims: Mapping[str, Any], name: str) -> int:
    """Return a time claim of the token, or 0 if it is missing.

    So a token without `exp` is treated as expired.
    """
    value = claims.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _POSITIVE:
        raise InvalidToken(f"malformed {name}")
    return value


def _claims(claims: Mapping[str, Any]) -> Claims:
    subject, password = claims.get("sub", ""), claims.get("pwd", "")
    if not _are_texts(subject, password) or len(subject) > _LONGEST_SUBJECT:
        raise InvalidToken("malformed sub")
    if _CONTROL.search(subject):
        # The response contains the subject in a header; a line break in the subject would begin a
        # forged header.
        raise InvalidToken("its claim sub has a control character")
    return Claims(subject, _time(claims, "exp"), _access(claims.get("access")), password)


def _access(entries: object) -> Access:
    """Return the access that the token grants.

    The field `class` of an entry has no effect, as in docker distribution.
    """
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise InvalidToken("malformed access")
    if len(entries) > MOST_SCOPES:
        raise InvalidToken(f"the token has more than {MOST_SCOPES} scopes")
    access: dict[tuple[str, str], frozenset[str]] = {}
    for entry in entries:
        kind, name, actions = _entry(entry)
        access[kind, name] = access.get((kind, name), frozenset()) | actions
    return access


def _entry(entry: object) -> tuple[str, str, frozenset[str]]:
    if isinstance(entry, dict):
        kind, name = entry.get("type", ""), entry.get("name", "")
        actions = entry.get("actions") or []
        texts = [kind, name, *actions] if isinstance(actions, list) else [None]
        if _are_texts(*texts):
            return kind, name, frozenset(actions)
    raise InvalidToken("malformed access")


def _are_texts(*values: object) -> bool:
    """Return whether all values are texts that UTF-8 can encode.

    JSON texts can contain lone surrogates, which UTF-8 cannot encode.
    """
    for each in values:  # PERF: all() with a generator would take twice as long.
        if not isinstance(each, str) or (not each.isascii() and _SURROGATE.search(each)):
            return False
    return True
