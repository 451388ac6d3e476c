"""Authenticate clients by Basic credentials (RFC 7617), and give anonymous clients their rights."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from entrepot.registry.auth.htpasswd import Htpasswd, LoginSource, Users, no_users
from entrepot.registry.auth.identity import Authenticator, Identity, OpenAuthenticator
from entrepot.registry.auth.password_cache import PasswordCache
from entrepot.registry.auth.rules import ALL, PULL, AccessRules
from entrepot.registry.challenges import AuthChallenge, basic_challenge
from entrepot.runtime.access import Action

Anonymous = Literal["none", "pull"]
Check = Callable[[str, str], bool]
"""A `Check` returns whether a user's password is correct."""

# A correct password stays valid until the password file changes, so the cache keeps the result of
# its check for this many seconds. With a shorter time, the next check could wait behind a flood of
# wrong passwords.
_REMEMBERED_S = 12 * 3600.0
_NO_RIGHTS: frozenset[Action] = frozenset()

# This pattern matches a header with the base64 form of user and password (RFC 7617, 2). It does not
# match two Authorization headers, which arrive joined by a comma. The pattern is as strict as the
# parser of HAProxy, which counts wrong passwords by user: HAProxy could not count a credential that
# only the worker accepts. The scheme `bearer` is accepted, because docker sends the same base64
# text as a token (registry/api/docker_login.py).
_BASE64 = "[A-Za-z0-9+/]"
_BASIC = re.compile(
    rf"(?:basic|bearer) +"
    rf"((?:{_BASE64}{{4}})*(?:{_BASE64}{{2}}==|{_BASE64}{{3}}=|{_BASE64}{{4}}))",
    re.IGNORECASE | re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BasicAuthenticator:
    """A `BasicAuthenticator` checks Basic credentials (RFC 7617) with the function *check*.

    *rules* returns the current access rules; if it returns None, every user has all rights.
    *anonymous* limits the rights of anonymous clients, with and without access rules. *queued* is a
    password check that also receives the source of the login. If *challenge* is set, it is sent in
    place of the Basic challenge, which contains *realm*.
    """

    def __init__(
        self,
        check: Check,
        *,
        realm: str,
        anonymous: Anonymous = "none",
        rules: Callable[[], AccessRules | None] = lambda: None,
        queued: Callable[[str, str, LoginSource], bool] | None = None,
        challenge: AuthChallenge | None = None,
    ) -> None:
        self._check = check
        self._queued = queued
        self._challenge = challenge or basic_challenge(realm)
        self._anonymous_rights = PULL if anonymous == "pull" else _NO_RIGHTS
        self._rules = rules

    def identify(self, authorization: str | None) -> Identity:
        """Return the user's identity if the password is correct, else an anonymous identity."""
        return self._identify(authorization, self._check)

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the client's identity; pass *source* to the check *queued*, if that is set."""
        queued = self._queued
        if queued is None:
            return self.identify(authorization)
        return self._identify(authorization, lambda user, password: queued(user, password, source))

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy verified, without a password check."""
        return self._identify(authorization, _accept)

    def _identify(self, authorization: str | None, check: Check) -> Identity:
        if not authorization:
            return self._anonymous()
        credentials = _credentials(authorization)
        if credentials is None:
            return self._anonymous(has_wrong_credentials=True)
        user, password = credentials
        # skopeo sends an empty user and an empty password if skopeo has no password.
        if not user and not password:
            return self._anonymous()
        if check(user, password):
            return self.identity_of(user)
        return self._anonymous(has_wrong_credentials=True)

    def _anonymous(self, *, has_wrong_credentials: bool = False) -> Identity:
        rules = self._rules() if self._anonymous_rights else None
        granted = rules.of(None) if rules else None
        rights = granted.actions if granted else self._anonymous_rights
        return Identity(
            None,
            rights,
            self._challenge,
            has_wrong_credentials=has_wrong_credentials,
            granted=granted,
            is_open=rules is None and bool(rights),
        )

    def identity_of(self, user: str) -> Identity:
        """Return the identity of a user whose password was correct."""
        rules = self._rules()
        granted = rules.of(user) if rules else None
        rights = granted.actions if granted else ALL
        return Identity(user, rights, self._challenge, granted=granted, is_open=rules is None)


def from_passwords(  # noqa: PLR0913 - passed by name, all with a default
    path: Path | None,
    *,
    realm: str,
    anonymous: Anonymous = "none",
    users: Users = no_users,
    rules: Callable[[], AccessRules | None] = lambda: None,
    kept: Path | None = None,
    watch: Callable[[Htpasswd], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
    refused: Callable[[], None] = lambda: None,
    challenge: AuthChallenge | None = None,
) -> BasicAuthenticator:
    """Return an authenticator for the users of the password file at *path* and of *users*.

    *kept* is the path at which the authenticator stores the last valid content of the password
    file. *watch* is called with the object that reloads the password file. *refused* is called for
    each password that was not checked because too many other checks were waiting. Raises: OSError,
    InvalidHtpasswd.
    """
    passwords = Htpasswd(path, users=users, kept=kept, clock=clock, refused=refused)
    watch(passwords)
    cache = PasswordCache(
        passwords, generation=lambda: passwords.generation, good_for=_REMEMBERED_S
    )
    return BasicAuthenticator(
        cache, realm=realm, anonymous=anonymous, rules=rules, queued=cache, challenge=challenge
    )


def authenticator(
    of: Authenticator | Check | None,
    *,
    realm: str = "entrepot",
    anonymous: Anonymous = "none",
    rules: AccessRules | None = None,
) -> Authenticator:
    """Return the authenticator for *of*, which a program that embeds the registry passes.

    If *of* is None, every client has all rights. If *of* is a function, the registry calls it for
    the password of each request; to cache the results, a program passes a `PasswordCache` that
    calls the function.
    """
    if of is None:
        return OpenAuthenticator()
    if isinstance(of, Authenticator):
        return of
    return BasicAuthenticator(of, realm=realm, anonymous=anonymous, rules=lambda: rules)


def _accept(_user: str, _password: str) -> bool:
    return True


def _credentials(authorization: str) -> tuple[str, str] | None:
    """Return user and password of an Authorization header, or None if not Basic or malformed."""
    letters = credential(authorization)
    if letters is None:
        return None
    try:
        text = base64.b64decode(letters, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    # RFC 7617, 2, forbids control characters; a line break in a user's name could forge a header.
    return None if not colon or _CONTROL.search(text) else (user, password)


def basic_credentials(user: str, password: str) -> str:
    """Return the Authorization header of a user and a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def user_of(authorization: str) -> str:
    """Return the user name in an Authorization header, or an empty text; check no password."""
    return (_credentials(authorization) or ("", ""))[0]


def credential(authorization: str) -> str | None:
    """Return the base64 of user and password in an Authorization header, or None if it has none."""
    match = _BASIC.fullmatch(authorization.strip(" \t"))
    return match[1] if match else None
