"""Authenticate clients, and give them an identity with rights.

docs/internals/edge-cache.md ("Logins") describes the flows. With a password file, every client gets
a challenge. With anonymous pull, only clients that do more than pull get one. Invalid credentials
then make a client anonymous, because dockerd sends its Docker Hub credentials to a mirror.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from entrepot.datastore.refs import Repository
from entrepot.registry.auth.htpasswd import LoginSource as LoginSource
from entrepot.registry.auth.rules import ALL, AccessRights, everywhere
from entrepot.registry.auth.rules import Action as Action
from entrepot.registry.auth.token_grant import TokenGrant
from entrepot.registry.challenges import AuthChallenge
from entrepot.registry.errors import Forbidden, Unauthenticated

_NO_RIGHTS: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class Identity:
    """An `Identity` is the client of a request; an anonymous client has the `user` None.

    `rights` are the actions that the client may do in at least one repository. `granted` has the
    rights by repository; None: `rights` hold in every repository. `is_open`: a client that may read
    one repository may read all. `has_wrong_credentials`: the request had credentials that are wrong
    or malformed; `refusal` is the reason, for the log. `challenge` is or makes the value of
    WWW-Authenticate for a missing right; None: there are no passwords. `token` limits the rights of
    a client that sent a token; the registry compares it with the scopes that a request needs.
    """

    user: str | None
    rights: frozenset[Action] = _NO_RIGHTS
    challenge: AuthChallenge | str | None = None
    has_wrong_credentials: bool = False
    granted: AccessRights | None = None
    is_open: bool = False
    token: TokenGrant | None = None
    refusal: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Return whether the client has shown no right credential; a token may be of no user."""
        return self.user is None and self.token is None

    @property
    def rights_class(self) -> str:
        """Return the name of the rights class; clients with equal rights have the same class.

        Anonymous clients never share a class with users. The name is the same in all processes,
        until the access rules change. HAProxy caches responses to pulls only, so the class of a
        token depends on what it permits to pull, and on nothing else.
        """
        if self.token is None:
            granted = self.granted or everywhere(self.rights, is_user=self.user is not None)
            return granted.name
        everything = ("**",) if "pull" in self.rights else ()
        patterns = self.granted.pulled_patterns if self.granted else everything
        # JSON, because a name in a token may contain any character
        text = json.dumps((patterns, self.token.pulled))
        return f"t{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def may(self, action: Action, repository: Repository | None) -> bool:
        """Return whether the client may do *action* there; None means in any repository."""
        if self.granted is None:
            return action in self.rights
        return self.granted.allow(action, repository)

    def may_everywhere(self, action: Action) -> bool:
        """Return whether the client may do *action* in every repository."""
        return self.granted.everywhere(action) if self.granted else action in self.rights

    def require(self, action: Action, repository: Repository | None = None) -> None:
        """Do nothing if the client has the right. Raises: Unauthenticated, Forbidden."""
        if self.may(action, repository):
            return
        if self.is_anonymous and self.challenge is not None:
            raise Unauthenticated(self.challenge)
        raise Forbidden(f"{action} is not allowed for this client")

    def require_access(self) -> None:
        """Reject wrong credentials and anonymous clients without any right.

        Raises: Unauthenticated.
        """
        has_no_right = self.is_anonymous and not self.rights
        if self.challenge is not None and (self.has_wrong_credentials or has_no_right):
            raise Unauthenticated(self.challenge)

    def require_login(self) -> None:
        """Reject anonymous clients, as `GET /v2/` does, unless there are no passwords at all.

        podman, buildah, skopeo and docker send a password only after a challenge at `/v2/`, even if
        anonymous clients may pull. Without a challenge clients never log in, and a push fails.
        Raises: Unauthenticated.
        """
        if self.challenge is not None and self.is_anonymous:
            raise Unauthenticated(self.challenge)


@runtime_checkable
class Authenticator(Protocol):
    """Identifies the client of a request by its Authorization header; None: it has none.

    An authenticator rejects no request: `Identity` decides what an anonymous client may do. Any
    thread may call an authenticator's methods. Raises: Overloaded.
    """

    def identify(self, authorization: str | None) -> Identity:
        """Return the client's identity."""
        ...


@runtime_checkable
class CachedPasswords(Protocol):
    """An Authenticator that accepts a credential without a check if HAProxy has verified it."""

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified, with current rights."""
        ...


@runtime_checkable
class QueueingAuthenticator(Protocol):
    """This authenticator queues its password checks by the source of the login."""

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the identity for a credential that comes from *source*."""
        ...


class OpenAuthenticator:
    """Gives every client all rights, as docker distribution does without `auth`."""

    def __init__(self) -> None:
        self._identity = Identity(None, ALL, is_open=True)

    def identify(self, authorization: str | None) -> Identity:  # noqa: ARG002 - of the protocol
        """Return the anonymous identity with all rights, whatever the header is."""
        return self._identity
