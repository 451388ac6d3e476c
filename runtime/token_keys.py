"""Read the keys that verify tokens from certificates in PEM, or from a JSON Web Key Set.

The check of the configuration and the workers both use this module, so they accept the same keys.
Only public keys of asymmetric algorithms are accepted: with a symmetric key, every program that can
read the file could issue tokens.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_BYTES: Final = 2**20
"""A file may have at most this size in bytes."""
MAX_KEYS: Final = 1000
_MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3, requires this minimum.
_MAX_RSA_BITS: Final = 16_384  # OpenSSL cannot verify signatures with larger keys.
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class UnusableKeys(ValueError):  # noqa: N818 - the class name states the fact
    """A file has no usable key, or an entry of the file is not a usable key.

    `message` states the problem, and `remedy` states how to correct it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A `SigningKey` is a public key, with which the signature of a token is verified.

    Only tokens with the signature algorithm `algorithm` may use the key; None permits every
    algorithm for the type of the key.
    """

    key: PublicKey
    algorithm: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """A `TrustedKeys` holds the keys and root certificates of one file.

    `by_id` maps each ID of a key to the key. A token can contain a chain of certificates, which
    must end with one of `roots`. `skipped` contains a line for each entry of the file that is never
    used.
    """

    by_id: Mapping[str, SigningKey] = field(default_factory=dict)
    roots: tuple[x509.Certificate, ...] = ()
    skipped: tuple[str, ...] = ()

    def __or__(self, other: TrustedKeys) -> TrustedKeys:
        """Return the keys of both objects; *other* takes precedence for an ID that both have."""
        skipped = self.skipped + other.skipped
        return TrustedKeys({**self.by_id, **other.by_id}, self.roots + other.roots, skipped)


def parse_bundle(content: bytes) -> TrustedKeys:
    """Read a bundle of certificates in PEM.

    The result contains each key under all IDs by which a token can name the key. Raises:
    UnusableKeys.
    """
    _limit(content)
    try:
        roots = x509.load_pem_x509_certificates(content)
    except ValueError:
        roots = []
    if not roots:
        raise UnusableKeys("the file has no readable certificate", "write the certificates in PEM")
    if len(roots) > MAX_KEYS:
        raise UnusableKeys(
            f"the file has more than {MAX_KEYS} certificates",
            "keep the certificates of the token server only",
        )
    keys: dict[str, SigningKey] = {}
    skipped: list[str] = []
    for number, root in enumerate(roots, 1):
        key = public_key(root)
        if problem := key_problem(key):
            skipped.append(f"certificate {number}: {problem}")
        else:
            assert isinstance(key, PublicKey)  # noqa: S101 - key_problem has checked it
            keys |= dict.fromkeys(key_ids(key), SigningKey(key))
    return TrustedKeys(keys, tuple(roots), tuple(skipped))


def parse_jwks(content: bytes) -> TrustedKeys:
    """Read a JSON Web Key Set (RFC 7517, 5). Raises: UnusableKeys."""
    _limit(content)
    keys: dict[str, SigningKey] = {}
    skipped: list[str] = []
    for number, entry in enumerate(_entries(content), 1):
        try:
            names, key = _from_jwk(entry)
        except UnusableKeys as error:
            skipped.append(f"key {number}: {error.message}")
        else:
            keys |= dict.fromkeys(names, key)
    if not keys:
        raise UnusableKeys(
            f"the file has no usable key ({'; '.join(skipped[:3]) or 'it is empty'})",
            "write public keys of type RSA, EC or OKP",
        )
    return TrustedKeys(keys, skipped=tuple(skipped))


def public_key(certificate: x509.Certificate) -> object:
    """Return the key of a certificate, or None if its type is unknown."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def key_ids(key: PublicKey) -> list[str]:
    """Return the IDs of a certificate's key in docker distribution 3.x and 2.x (libtrust)."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        thumbprints = [f'{{"e":"{_number(numbers.e)}","kty":"RSA","n":"{_number(numbers.n)}"}}']
    elif isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_numbers()
        # docker distribution 3 omits leading zeros of a coordinate, although RFC 7518, 6.2.1.2,
        # requires them. So the result contains the IDs with and without these zeros.
        width = (key.key_size + 7) // 8
        thumbprints = list(
            dict.fromkeys(_ec_thumbprint(key, point.x, point.y, w) for w in (width, 0))
        )
    else:
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return [_hashed(f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64(raw)}"}}')]
    return [*map(_hashed, thumbprints), _libtrust(key)]


def _limit(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise UnusableKeys(f"larger than {MAX_BYTES} bytes", "keep only keys of the token server")


def _entries(content: bytes) -> list[object]:
    if content.count(b"{") + content.count(b"[") > 4 * MAX_KEYS:
        raise UnusableKeys(f"more than {MAX_KEYS} keys", "keep only keys of the token server")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UnusableKeys("not a JSON Web Key Set", 'write {"keys": [...]} (RFC 7517)')
    if len(entries) > MAX_KEYS:
        raise UnusableKeys(f"more than {MAX_KEYS} keys", "keep only keys of the token server")
    return entries


def _from_jwk(entry: object) -> tuple[list[str], SigningKey]:
    """Return the IDs and the key of an entry of a key set. Raises: UnusableKeys."""
    if not isinstance(entry, dict):
        raise UnusableKeys("not a key", "")
    if entry.get("use", "sig") != "sig":
        raise UnusableKeys("not for signatures", "")
    key = load_jwk(entry)
    named = entry.get("kid")
    names = [named] if isinstance(named, str) and named else []
    algorithm = entry.get("alg")
    return [*key_ids(key), *names], SigningKey(
        key, algorithm if algorithm is None else str(algorithm)
    )


def load_jwk(entry: Mapping[str, Any]) -> PublicKey:
    """Return the public key of a JSON Web Key. Raises: UnusableKeys."""
    algorithm = _JWK_TYPES.get(str(entry.get("kty")))
    if algorithm is None:
        raise UnusableKeys(f"type {str(entry.get('kty'))[:32]!r} is not RSA, EC or OKP", "")
    public = {name: value for name, value in entry.items() if name in _PUBLIC}
    try:
        key = algorithm.from_jwk(public)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise UnusableKeys("not readable", "") from None
    if problem := key_problem(key):
        raise UnusableKeys(problem, "")
    assert isinstance(key, PublicKey)  # noqa: S101 - key_problem has checked it
    return key


_JWK_TYPES: Final[Mapping[str, Any]] = {
    "RSA": jwt.algorithms.RSAAlgorithm,
    "EC": jwt.algorithms.ECAlgorithm,
    "OKP": jwt.algorithms.OKPAlgorithm,
}
# The names of the public members of a JSON Web Key. Other members, such as those of a private key,
# are not read.
_PUBLIC: Final = frozenset({"kty", "n", "e", "crv", "x", "y"})


def key_problem(key: object) -> str:
    """Return why a key cannot verify tokens, or an empty text if it can."""
    match key:
        case rsa.RSAPublicKey():
            if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
                return f"RSA key of {key.key_size} bits, not {_MIN_RSA_BITS} to {_MAX_RSA_BITS}"
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                return f"curve {key.curve.name} is not P-256, P-384 or P-521"
        case ed25519.Ed25519PublicKey():
            pass
        case _:
            return "neither an RSA, an EC nor an Ed25519 key"
    return ""


def _ec_thumbprint(key: ec.EllipticCurvePublicKey, x: int, y: int, width: int) -> str:
    curve = _CURVES[key.curve.name]
    return f'{{"crv":"{curve}","kty":"EC","x":"{_number(x, width)}","y":"{_number(y, width)}"}}'


def _libtrust(key: PublicKey) -> str:
    """Return the ID of a key in docker distribution 2.x.

    It consists of 240 bits of the key's SHA-256 in base32, in groups of four letters.
    """
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    letters = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(_groups(letters))


def _groups(letters: str) -> Iterator[str]:
    return (letters[at : at + 4] for at in range(0, len(letters), 4))


def _number(value: int, width: int = 0) -> str:
    return _base64(value.to_bytes(max((value.bit_length() + 7) // 8, width), "big"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _hashed(text: str) -> str:
    """Return the JWK thumbprint (RFC 7638, 3) of a key; *text* is its public members in JSON."""
    return _base64(hashlib.sha256(text.encode()).digest())
