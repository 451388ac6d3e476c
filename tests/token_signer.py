"""Signs tokens as a token server does, with each algorithm and each way to name the key."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from entrepot.runtime.token_keys import key_ids

ISSUER: Final = "test-issuer"
SERVICE: Final = "test-service"
ALGORITHMS: Final = (
    "EdDSA",
    *(f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in (256, 384, 512)),
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_CURVES: Final[Mapping[str, Callable[[], ec.EllipticCurve]]] = {
    "256": ec.SECP256R1,
    "384": ec.SECP384R1,
    "512": ec.SECP521R1,
}


@lru_cache(32)
def signer(algorithm: str, name: str = "one") -> Signer:
    """Return a signer with this algorithm; each *name* has its own key."""
    return Signer(_key("RSA" if algorithm[0] in "RP" else algorithm, name), algorithm)


@lru_cache(16)
def _key(algorithm: str, name: str) -> PrivateKey:
    """Return the key of this algorithm and name; cached, as a new RSA key takes 0.1 s."""
    del name
    return new_key(algorithm)


def new_key(algorithm: str) -> PrivateKey:
    """Return a new private key for a signature algorithm."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key(_CURVES[algorithm[2:]]())
    return rsa.generate_private_key(65537, 2048)


def claims(
    *scopes: str, now: float, lifetime: int = 300, user: str = "ann", **changed: Any
) -> dict[str, Any]:
    """Return the claims of a valid token for scopes such as `repository:NAME:pull`.

    *changed* replaces claims; the value None removes one.
    """
    every = {
        "iss": ISSUER,
        "sub": user,
        "aud": SERVICE,
        "exp": int(now) + lifetime,
        "nbf": int(now) - 10,
        "iat": int(now),
        "jti": "1",
        "access": [access(scope) for scope in scopes],
    }
    return {name: each for name, each in (every | changed).items() if each is not None}


def access(scope: str) -> dict[str, Any]:
    """Return the member of the claim `access` for one scope."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


class Signer:
    """A token server's private key, whose certificate is self-signed or issued by *issuer*."""

    def __init__(self, key: PrivateKey, algorithm: str, issuer: Signer | None = None) -> None:
        self.key = key
        self.algorithm = algorithm
        self._issuer = issuer

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate of this signer's key."""
        return certificate_of(self.key, self._issuer)

    def chain(self, *more: Signer) -> dict[str, Any]:
        """Return a token header with the certificates of this signer and of *more*, in order."""
        ders = (each.certificate.public_bytes(serialization.Encoding.DER) for each in (self, *more))
        return {"x5c": [base64.b64encode(der).decode() for der in ders]}

    def by_id(self, at: int = 0) -> dict[str, Any]:
        """Return a token header with an ID of the key.

        With *at* = 0 the ID is the key's thumbprint (RFC 7638), with -1 the ID that libtrust uses.
        """
        return {"kid": key_ids(self.key.public_key())[at]}

    def jwk(self, **more: str) -> dict[str, Any]:
        """Return the public key as a JSON Web Key; *more* adds members."""
        return public_jwk(self.key) | more

    def jwks(self, **more: str) -> bytes:
        """Return a JSON Web Key Set with this public key only."""
        return json.dumps({"keys": [self.jwk(**more)]}).encode()

    def bundle(self) -> bytes:
        """Return this signer's certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self, content: Mapping[str, Any] | bytes, header: Mapping[str, Any] | None = None
    ) -> str:
        """Return a signed token; *content* is its claims, or the bytes of its payload."""
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = self.by_id() if header is None else header
        return jwt.PyJWS().encode(payload, self.key, algorithm=self.algorithm, headers=dict(named))


def public_jwk(key: PrivateKey) -> dict[str, Any]:
    """Return the public part of a key as a JSON Web Key."""
    kinds: dict[type, Any] = {
        rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
    }
    public = key.public_key()
    algorithm = next(each for kind, each in kinds.items() if isinstance(public, kind))
    written: dict[str, Any] = algorithm.to_jwk(public, as_dict=True)
    return written


def certificate_of(
    key: PrivateKey,
    issuer: Signer | None = None,
    *,
    days: tuple[int, int] = (-1, 3650),
    is_authority: bool = True,
    subject: x509.Name | None = None,
) -> x509.Certificate:
    """Return a certificate of a key that is valid from *days*[0] to *days*[1] days from now."""
    now = dt.datetime.now(dt.UTC)
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, f"signer {id(key)}")
    name = subject or x509.Name([common_name])
    signed_by = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .sign(
            signed_by,
            None if isinstance(signed_by, ed25519.Ed25519PrivateKey) else hashes.SHA256(),
        )
    )
