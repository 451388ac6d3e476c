"""Who asks, and what they may do.

The flows are docs/design.md's "Anonymous and not": with a password file everybody is asked for a
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

from datastore.refs import Repository
from registry.errors import Forbidden, Unauthenticated
from registry.htpasswd import Htpasswd
from registry.verdicts import Verdicts

Action = Literal["pull", "push", "delete"]
Anonymous = Literal["none", "pull"]
Check = Callable[[str, str], bool]
"""Tells whether a user's password is right."""

_NOTHING: frozenset[Action] = frozenset()
_PULL: frozenset[Action] = frozenset({"pull"})
_ALL: frozenset[Action] = frozenset({"pull", "push", "delete"})

# RFC 7617, 2; a second Authorization header arrives joined by a comma, which is none of these
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNQUOTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever sent a request: `user` None is nobody in particular.

    `mistaken`: credentials were sent and are wrong, or none that are understood. `challenge` is
    the WWW-Authenticate for what needs a right that is missing; None where no password helps.
    """

    user: str | None
    rights: frozenset[Action] = _NOTHING
    challenge: str | None = None
    mistaken: bool = False

    def may(self, action: Action, repository: Repository | None) -> bool:  # noqa: ARG002 - as said below
        """Tell whether this one may do that there; None: to the registry as a whole.

        Here all repositories are alike; a program that embeds the registry may differ.
        """
        return action in self.rights

    def require(self, action: Action, repository: Repository | None = None) -> None:
        """Let pass who may. Raises: Unauthenticated, Forbidden."""
        if self.may(action, repository):
            return
        if self.user is None and self.challenge is not None:
            raise Unauthenticated(self.challenge)
        raise Forbidden(f"{action} is not allowed here")

    def enter(self) -> None:
        """Let pass who may be here at all, as `GET /v2/` asks. Raises: Unauthenticated.

        It is how clients try a password: a wrong one is refused here even where nobody needs one.
        """
        if self.challenge is not None and (self.mistaken or not self.rights):
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


class Open:
    """Everybody may do everything, as in docker distribution without `auth`."""

    def __init__(self) -> None:
        self._everybody = Identity(None, _ALL)

    def identify(self, authorization: str | None) -> Identity:  # noqa: ARG002 - the protocol's
        """Say that it is nobody in particular, whatever was sent."""
        return self._everybody


class Basic:
    """Basic authentication (RFC 7617) by *check*; *anonymous* is what needs no password."""

    def __init__(self, check: Check, *, realm: str, anonymous: Anonymous = "none") -> None:
        self._check = check
        rights = _PULL if anonymous == "pull" else _NOTHING
        self._challenge = _challenge(realm)
        self._nobody = Identity(None, rights, self._challenge)
        self._mistaken = Identity(None, rights, self._challenge, mistaken=True)

    def identify(self, authorization: str | None) -> Identity:
        """Say who it is; a right password gives every right."""
        if not authorization:
            return self._nobody
        credentials = _credentials(authorization)
        if credentials is None:
            return self._mistaken
        user, password = credentials
        if not user and not password:  # skopeo's way to say that it has none
            return self._nobody
        if self._check(user, password):
            return Identity(user, _ALL, self._challenge)
        return self._mistaken


def from_htpasswd(
    path: Path,
    *,
    realm: str,
    anonymous: Anonymous = "none",
    clock: Callable[[], float] = time.time,
) -> Authenticator:
    """Let in whom the password file at *path* knows, as it is now.

    Raises: OSError, InvalidHtpasswd.
    """
    file = Htpasswd(path, clock=clock)
    verdicts = Verdicts(file, generation=lambda: file.generation)
    return Basic(verdicts, realm=realm, anonymous=anonymous)


def authenticator(
    of: Authenticator | Check | None, *, realm: str = "entrepot", anonymous: Anonymous = "none"
) -> Authenticator:
    """Make one of what an embedding program has: its own, a function, or nothing.

    The function is asked at each request; Verdicts remembers for it, if that is wanted.
    """
    if of is None:
        return Open()
    if isinstance(of, Authenticator):
        return of
    return Basic(of, realm=realm, anonymous=anonymous)


def _credentials(authorization: str) -> tuple[str, str] | None:
    """Read user and password; None: not Basic, or malformed."""
    match = _BASIC.fullmatch(authorization.strip())
    if match is None:
        return None
    try:
        text = base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    # RFC 7617, 2: no control characters, or a user's name could forge a header
    return None if not colon or _CONTROL.search(text) else (user, password)


def _challenge(realm: str) -> str:
    quoted = _UNQUOTABLE.sub("?", realm).replace("\\", "\\\\").replace('"', '\\"')
    return f'Basic realm="{quoted}"'
