"""Who asks, and what they may do.

docs/internals/edge-cache.md ("Logins") has the flows: with a password file everybody is asked for a
password, or, with anonymous pull, only who wants more than to pull; what cannot be recognised is
then nobody in particular, for dockerd sends a mirror the credentials that it has for Docker Hub.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from entrepot.datastore.refs import Repository
from entrepot.registry.auth.htpasswd import Asker as Asker
from entrepot.registry.auth.htpasswd import Htpasswd, Users, no_users
from entrepot.registry.auth.password_cache import PasswordCache
from entrepot.registry.auth.rules import ALL, PULL, AccessRights, AccessRules, everywhere
from entrepot.registry.auth.rules import Action as Action
from entrepot.registry.errors import Forbidden, Unauthenticated

Anonymous = Literal["none", "pull"]
Check = Callable[[str, str], bool]
"""Tells whether a user's password is right."""

# A right password stays right as long as its file does not change, and is not checked again: no
# flood of wrong ones keeps it waiting.
_KNOWN_FOR_S = 12 * 3600.0
_NOTHING: frozenset[Action] = frozenset()

# RFC 7617, 2; a second Authorization header arrives joined by a comma, which is none of these.
# As strict as HAProxy, which counts wrong passwords by user: what it can't read has none to count.
# As a bearer token the same letters come back from docker (registry/api/docker_login.py).
_SIX_BITS = "[A-Za-z0-9+/]"
_BASIC = re.compile(
    rf"(?:basic|bearer) +"
    rf"((?:{_SIX_BITS}{{4}})*(?:{_SIX_BITS}{{2}}==|{_SIX_BITS}{{3}}=|{_SIX_BITS}{{4}}))",
    re.IGNORECASE | re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNQUOTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever sent a request: `user` None is nobody in particular.

    `rights` is what he may do anywhere at all; `granted` says where, None: everywhere.
    `is_open`: whoever may read any repository may read them all, this one or another.
    `mistaken`: credentials were sent and are wrong, or none that are understood. `challenge` is
    the WWW-Authenticate for what needs a right that is missing; None where no password helps.
    """

    user: str | None
    rights: frozenset[Action] = _NOTHING
    challenge: str | None = None
    mistaken: bool = False
    granted: AccessRights | None = None
    is_open: bool = False

    @property
    def rights_class(self) -> str:
        """Return a short name for what this one may do: equal for all who may do the same.

        A stranger's is no user's. It holds in every process, as long as the rules do.
        """
        granted = self.granted or everywhere(self.rights, is_user=self.user is not None)
        return granted.name

    def may(self, action: Action, repository: Repository | None) -> bool:
        """Tell whether this one may do that there; None: to the registry as a whole."""
        if self.granted is None:
            return action in self.rights
        return self.granted.allow(action, repository)

    def may_everywhere(self, action: Action) -> bool:
        """Tell whether this one may do that in every repository."""
        return self.granted.everywhere(action) if self.granted else action in self.rights

    def require(self, action: Action, repository: Repository | None = None) -> None:
        """Let pass who may. Raises: Unauthenticated, Forbidden."""
        if self.may(action, repository):
            return
        if self.user is None and self.challenge is not None:
            raise Unauthenticated(self.challenge)
        raise Forbidden(f"{action} is not allowed here")

    def enter(self) -> None:
        """Let pass users, and strangers who may do anything at all. Raises: Unauthenticated."""
        is_stranger = self.user is None and not self.rights
        if self.challenge is not None and (self.mistaken or is_stranger):
            raise Unauthenticated(self.challenge)

    def greet(self) -> None:
        """Let users pass, as `GET /v2/` asks; everybody where there are no passwords.

        podman, buildah, skopeo and docker send a password only after a challenge there, also where
        strangers may pull: without one they never log in, and a push fails.
        Raises: Unauthenticated.
        """
        if self.challenge is not None and self.user is None:
            raise Unauthenticated(self.challenge)


@runtime_checkable
class Authenticator(Protocol):
    """Knows who sends a request by its Authorization header, None where it has none.

    It does not refuse: what a stranger may do is the Identity's to say. Any thread may ask.
    Raises: Overloaded.
    """

    def identify(self, authorization: str | None) -> Identity:
        """Say who it is."""
        ...


@runtime_checkable
class CachedPasswords(Protocol):
    """An Authenticator that need not check again what somebody trusted remembers as right."""

    def recall(self, authorization: str) -> Identity:
        """Say who it is whose credential was found right a moment ago, by the rights of now."""
        ...


@runtime_checkable
class Queueing(Protocol):
    """An Authenticator that has those wait who ask much."""

    def identify_for(self, authorization: str | None, asker: Asker) -> Identity:
        """Say who it is whose credential *asker* brings."""
        ...


class Open:
    """Everybody may do everything, as in docker distribution without `auth`."""

    def __init__(self) -> None:
        self._everybody = Identity(None, ALL, is_open=True)

    def identify(self, authorization: str | None) -> Identity:  # noqa: ARG002 - the protocol's
        """Say that it is nobody in particular, whatever was sent."""
        return self._everybody


class Basic:
    """Basic authentication (RFC 7617) by *check*; *anonymous* is what needs no password.

    *rules* returns those that are in force, None where every user may do everything: then too
    *anonymous* bounds what a stranger may do. *queued* is a check that is told who asks.
    """

    def __init__(
        self,
        check: Check,
        *,
        realm: str,
        anonymous: Anonymous = "none",
        rules: Callable[[], AccessRules | None] = lambda: None,
        queued: Callable[[str, str, Asker], bool] | None = None,
    ) -> None:
        self._check = check
        self._queued = queued
        self._challenge = _challenge(realm)
        self._strangers = PULL if anonymous == "pull" else _NOTHING
        self._rules = rules

    def identify(self, authorization: str | None) -> Identity:
        """Say who it is; a right password gives a user's rights."""
        return self._identify(authorization, self._check)

    def identify_for(self, authorization: str | None, asker: Asker) -> Identity:
        """Say who it is; the check is told who brings the password, if it wants to know."""
        queued = self._queued
        if queued is None:
            return self.identify(authorization)
        return self._identify(authorization, lambda user, word: queued(user, word, asker))

    def recall(self, authorization: str) -> Identity:
        """Say who it is, by a password that needs no check."""
        return self._identify(authorization, _is_known)

    def _identify(self, authorization: str | None, check: Check) -> Identity:
        if not authorization:
            return self._stranger()
        credentials = _credentials(authorization)
        if credentials is None:
            return self._stranger(mistaken=True)
        user, password = credentials
        if not user and not password:  # skopeo's way to say that it has none
            return self._stranger()
        if check(user, password):
            return self._user(user)
        return self._stranger(mistaken=True)

    def _stranger(self, *, mistaken: bool = False) -> Identity:
        rules = self._rules() if self._strangers else None
        granted = rules.of(None) if rules else None
        rights = granted.actions if granted else self._strangers
        return Identity(
            None,
            rights,
            self._challenge,
            mistaken=mistaken,
            granted=granted,
            is_open=rules is None and bool(rights),
        )

    def _user(self, user: str) -> Identity:
        rules = self._rules()
        granted = rules.of(user) if rules else None
        rights = granted.actions if granted else ALL
        return Identity(user, rights, self._challenge, granted=granted, is_open=rules is None)


def from_passwords(  # noqa: PLR0913 - by name, each with a default
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
) -> Authenticator:
    """Let in whom the password file at *path* or *users* know, as they are now.

    *kept* is where to keep the last good content of the file; *watch* is given what knows the
    passwords; *refused* gets told of each password that was not checked, for too many wait.
    Raises: OSError, InvalidHtpasswd.
    """
    passwords = Htpasswd(path, users=users, kept=kept, clock=clock, refused=refused)
    watch(passwords)
    verdicts = PasswordCache(
        passwords, generation=lambda: passwords.generation, good_for=_KNOWN_FOR_S
    )
    return Basic(verdicts, realm=realm, anonymous=anonymous, rules=rules, queued=verdicts)


def authenticator(
    of: Authenticator | Check | None,
    *,
    realm: str = "entrepot",
    anonymous: Anonymous = "none",
    rules: AccessRules | None = None,
) -> Authenticator:
    """Make one of what an embedding program has: its own, a function, or nothing.

    The function is asked at each request; Verdicts remembers for it, if that is wanted.
    """
    if of is None:
        return Open()
    if isinstance(of, Authenticator):
        return of
    return Basic(of, realm=realm, anonymous=anonymous, rules=lambda: rules)


def _is_known(_user: str, _password: str) -> bool:
    return True


def _credentials(authorization: str) -> tuple[str, str] | None:
    """Read user and password; None: not Basic, or malformed."""
    letters = credential(authorization)
    if letters is None:
        return None
    try:
        text = base64.b64decode(letters, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    # RFC 7617, 2: no control characters, or a user's name could forge a header
    return None if not colon or _CONTROL.search(text) else (user, password)


def user_of(authorization: str) -> str:
    """Return the user whose credentials these are meant to be; empty where none can be read."""
    return (_credentials(authorization) or ("", ""))[0]


def credential(authorization: str) -> str | None:
    """Return the base64 of user and password in an Authorization header; None: there is none."""
    match = _BASIC.fullmatch(authorization.strip(" \t"))
    return match[1] if match else None


def _challenge(realm: str) -> str:
    quoted = _UNQUOTABLE.sub("?", realm).replace("\\", "\\\\").replace('"', '\\"')
    return f'Basic realm="{quoted}"'
