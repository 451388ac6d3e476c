"""Issue the tokens of the appliance's own token endpoint (`auth.htpasswd.token`).

The appliance generates and stores the key that signs its tokens. A token of the appliance is valid
for five minutes. It becomes invalid at once when its user's password changes, because the token
contains a fingerprint of the password's hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.registry.auth.token_grant import Access, Claims
from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.reloading_file import ReloadingFile
from entrepot.runtime.token_keys import SigningKey, TrustedKeys, UnusableKeys, key_ids

log = logging.getLogger(__name__)

NAME: Final = "entrepot"
"""The issuer and the audience in the appliance's own tokens."""
ALGORITHM: Final = "ES256"
LIFETIME_S: Final = 300
"""A token is valid for this many seconds; clients then request a new token by themselves."""

_FINGERPRINT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class OwnKey:
    """An `OwnKey` holds the signing `key`, its `name` in tokens and a `secret` for fingerprints."""

    key: ec.EllipticCurvePrivateKey
    name: str
    secret: bytes

    def trusted(self) -> TrustedKeys:
        """Return the public key of the signing key, with its name in tokens."""
        return TrustedKeys({self.name: SigningKey(self.key.public_key(), ALGORITHM)})


def parse_key(content: bytes) -> OwnKey:
    """Read the appliance's private key in PEM format.

    Raises: UnusableKeys if the file does not contain a P-256 private key.
    """
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnusableKeys(
            "the file does not contain a P-256 private key", "delete the file, and restart"
        )
    number = key.private_numbers().private_value.to_bytes(32, "big")
    return OwnKey(
        key, key_ids(key.public_key())[0], hashlib.sha256(b"fingerprints" + number).digest()
    )


def key_file(path: Path, otherwise: Path) -> Path:
    """Return the path of the file whose key signs tokens: *path*, created if it is missing.

    If *path* cannot be written or used, the file stays unchanged, and a key at *otherwise* signs
    tokens until the next start. Raises: OSError if *otherwise* cannot be written either.
    """
    try:
        parse_key(path.read_bytes())
    except FileNotFoundError:
        try:
            write_atomically(path, _new_key(), mode=0o600, is_durable=True)
        except OSError as error:
            return _replacement(path, otherwise, error)
    except (OSError, UnusableKeys) as error:
        return _replacement(path, otherwise, error)
    return path


def _replacement(path: Path, otherwise: Path, problem: Exception) -> Path:
    log.warning(
        "the key of the token endpoint is unusable, a temporary one is in force",
        extra={"path": path, "problem": problem},
    )
    write_atomically(otherwise, _new_key(), mode=0o600)
    return otherwise


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An `IssuedToken` is a new token; `issued_at` is in seconds since the UTC epoch."""

    token: str
    issued_at: int
    expires_in: int = LIFETIME_S


class TokenIssuer:
    """A `TokenIssuer` signs tokens with the current *key*; *hash_of* returns a password's hash.

    *clock* is the wall clock, in seconds since the UTC epoch. Thread-safe.
    """

    def __init__(
        self,
        key: ReloadingFile[OwnKey],
        hash_of: Callable[[str], bytes | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._hash_of = hash_of
        self._clock = clock

    def trusted(self) -> TrustedKeys:
        """Return the public key that verifies the appliance's tokens."""
        return self._key.value.trusted()

    def issue(self, user: str | None, access: Access) -> IssuedToken:
        """Return a token for a user, or for an anonymous client if *user* is None."""
        now, key = int(self._clock()), self._key.value
        claims: dict[str, object] = {
            "iss": NAME,
            "aud": NAME,
            "exp": now + LIFETIME_S,
            "nbf": now,
            "iat": now,
            "jti": secrets.token_urlsafe(12),
            "access": [
                {"type": kind, "name": name, "actions": sorted(actions)}
                for (kind, name), actions in access.items()
            ],
        }
        if user is not None:
            claims |= {"sub": user, "pwd": self._fingerprint(key, user)}
        header = {"kid": key.name}
        text = jwt.PyJWS().encode(_json(claims), key.key, algorithm=ALGORITHM, headers=header)
        return IssuedToken(text, now)

    def is_current(self, claims: Claims) -> bool:
        """Return whether a user's password is unchanged since the token was issued."""
        expected = self._fingerprint(self._key.value, claims.subject)
        return hmac.compare_digest(expected.encode(), claims.password.encode())

    def _fingerprint(self, key: OwnKey, user: str) -> str:
        """Return the fingerprint of a user's password; it reveals nothing about the hash."""
        hashed = self._hash_of(user)
        if hashed is None:
            # The user of the token was deleted, so the fingerprint is random and matches nothing.
            return secrets.token_hex(_FINGERPRINT_BYTES)
        digest = hmac.digest(key.secret, user.encode() + b"\0" + hashed, "sha256")
        return base64.urlsafe_b64encode(digest[:_FINGERPRINT_BYTES]).decode()


def _json(claims: Mapping[str, object]) -> bytes:
    return json.dumps(claims, separators=(",", ":")).encode()
