"""Read the credential in one entry of a pull secret."""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field

from entrepot.config.errors import Unreadable

# Docker pads the credential with NUL characters, and the shell's `echo` appends a line break. These
# characters are not part of the password, because RFC 7617, 2, allows no control characters in a
# password.
_PADDING = "\0\r\n"
_REMEDY = "write the base64 of user:password"


@dataclass(frozen=True, slots=True)
class SecretCredential:
    """A `SecretCredential` is the login at an upstream registry. A field without a value is empty.

    A token takes precedence over the password. The appliance sends an identity token to the token
    service and receives an access token in exchange. The appliance sends a registry token to the
    registry unchanged.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


def credential(entry: object) -> SecretCredential | None:
    """Read an entry of the pull secret.

    Return None, which means anonymous access, if the entry has no credentials.

    As in Docker, the field `auth` of an entry takes precedence over `username` and `password`.
    Raises: Unreadable, whose message contains no part of the secret.
    """
    if not isinstance(entry, dict):
        raise Unreadable("not a JSON object", 'write {} or {"auth": "..."}')
    auth = _text(entry, "auth")
    tokens = _text(entry, "identitytoken"), _text(entry, "registrytoken")
    if auth:
        username, password = _decoded(auth)
        return SecretCredential(username, password, *tokens) if username or any(tokens) else None
    username, password = _text(entry, "username"), _text(entry, "password")
    if any(tokens):
        return SecretCredential(username, password, *tokens)
    if bool(username) != bool(password):
        missing = "username" if password else "password"
        raise Unreadable(
            f"the entry has no {missing}", "write both username and password, or neither"
        )
    return SecretCredential(username, password) if username else None


def _text(entry: dict[str, object], name: str) -> str:
    value = entry.get(name) or ""
    if not isinstance(value, str):
        raise Unreadable(f"{name} is not a text", _REMEDY if name == "auth" else "write a text")
    return value


def _decoded(auth: str) -> tuple[str, str]:
    auth = auth.strip()
    if len(auth) % 4:  # Python accepts more base64 padding than the format allows.
        raise Unreadable("auth is not base64 of UTF-8", _REMEDY)
    try:
        decoded = binascii.a2b_base64(auth, strict_mode=True).decode()
    except ValueError as error:
        raise Unreadable("auth is not base64 of UTF-8", _REMEDY) from error
    username, colon, password = decoded.rstrip(_PADDING).partition(":")
    if not colon or (password and not username):
        raise Unreadable("auth is not user:password", _REMEDY)
    return username, password
