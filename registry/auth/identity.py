"""Authenticate clients, and give them an identity with rights.

The section "Logins" of docs/internals/edge-cache.md describes how clients log in. If clients can
log in and anonymous clients have no rights, the registry sends a challenge to every client without
credentials. If anonymous clients may pull, the registry sends a challenge only at `/v2/`, and for a
request that needs more than the right to pull. In this case, a client with wrong credentials may
pull like an anonymous client, because dockerd sends its Docker Hub credentials to a mirror.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from entrepot.datastore.refs import Repository
from entrepot.registry.auth.htpasswd import LoginSource as LoginSource
from entrepot.registry.auth.rules import ALL, AccessRights, everywhere
from entrepot.registry.auth.token_grant import TokenGrant
from entrepot.registry.challenges import AuthChallenge
from entrepot.registry.errors import Forbidden, Unauthenticated
from entrepot.runtime.access import Action as Action

_NO_RIGHTS: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class Identity:
    """An `Identity` is the client of a request; an anonymous client has the `user` None.

    `rights` are the actions that the client may perform in at least one repository. `granted` holds
    the rights in each repository; if `granted` is None, `rights` apply to every repository.
    `is_open` is True if a client that may read one repository may read all repositories.
    `has_wrong_credentials` is True if the request had wrong or malformed credentials; `refusal` is
    the reason, for the log. `challenge` is the value of WWW-Authenticate for a missing right, or an
    object that makes this value; it is None if clients cannot log in. `token` limits the rights of
    a client that sent a token; the registry compares the token with the scopes that a request
    needs.
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
        """Return whether the client sent no valid credential, neither a password nor a token."""
        return self.user is None and self.token is None

    @property
    def rights_class(self) -> str:
        """Return the name of the rights class; clients with equal rights have the same class.

        Anonymous clients never share a class with users. The name of a rights class is the same in
        all processes, until the access rules change. HAProxy caches only responses to pulls, so the
        class of a token depends only on the pulls that the user and the token permit.
        """
        if self.token is None:
            granted = self.granted or everywhere(self.rights, is_user=self.user is not None)
            return granted.name
        everything = ("**",) if "pull" in self.rights else ()
        patterns = self.granted.pulled_patterns if self.granted else everything
        return _token_class(patterns, self.token.pulled)

    def limited_by(self, token: TokenGrant) -> Identity:
        """Return this identity with its rights limited by a valid *token*."""
        # PERF: dataclasses.replace() would take three times as long.
        return Identity(
            self.user,
            self.rights,
            self.challenge,
            granted=self.granted,
            is_open=self.is_open,
            token=token,
        )

    def may(self, action: Action, repository: Repository | None) -> bool:
        """Return whether the client may perform *action* in *repository* (None: in any)."""
        if self.granted is None:
            return action in self.rights
        return self.granted.allow(action, repository)

    def may_everywhere(self, action: Action) -> bool:
        """Return whether the client may perform *action* in every repository."""
        return self.granted.everywhere(action) if self.granted else action in self.rights

    def require(self, action: Action, repository: Repository | None = None) -> None:
        """Raise an error if the client has no right to perform *action* in *repository*.

        Raises: Unauthenticated if the client is anonymous and clients can log in, else Forbidden.
        """
        if self.may(action, repository):
            return
        if self.is_anonymous and self.challenge is not None:
            raise Unauthenticated(self.challenge)
        raise Forbidden(f"this client has no right to do the action {action}")

    def require_access(self) -> None:
        """Reject wrong credentials, and anonymous clients without any rights.

        Raises: Unauthenticated.
        """
        has_no_right = self.is_anonymous and not self.rights
        if self.challenge is not None and (self.has_wrong_credentials or has_no_right):
            raise Unauthenticated(self.challenge)

    def require_login(self) -> None:
        """Reject an anonymous client if clients can log in; `GET /v2/` calls this method.

        podman, buildah, skopeo and docker send a password only after a challenge at `/v2/`, even if
        anonymous clients may pull. Without a challenge they would never log in, and every push
        would fail.

        Raises: Unauthenticated.
        """
        if self.challenge is not None and self.is_anonymous:
            raise Unauthenticated(self.challenge)


@lru_cache(128)  # PERF: Most tokens grant the same rights as an earlier token.
def _token_class(patterns: tuple[str, ...], pulled: tuple[str, ...]) -> str:
    # JSON separates the names, because a name in a token may contain any character.
    text = json.dumps((patterns, pulled))
    return f"t{hashlib.sha256(text.encode()).hexdigest()[:24]}"


@runtime_checkable
class Authenticator(Protocol):
    """An `Authenticator` identifies a client by its Authorization header, which is None if absent.

    An authenticator rejects no request; `Identity` decides which actions an anonymous client may
    perform. Any thread may call an authenticator's methods. Raises: Overloaded.
    """

    def identify(self, authorization: str | None) -> Identity:
        """Return the identity of the client with this Authorization header."""
        ...


@runtime_checkable
class CachedPasswords(Protocol):
    """A `CachedPasswords` can skip the password check of a credential that HAProxy verified."""

    def identify_verified(self, authorization: str) -> Identity:
        """Return the identity for a credential that HAProxy has verified, with current rights."""
        ...


@runtime_checkable
class QueueingAuthenticator(Protocol):
    """A `QueueingAuthenticator` queues its password checks according to the source of the login."""

    def identify_from(self, authorization: str | None, source: LoginSource) -> Identity:
        """Return the identity for a credential; *source* selects the queue of a password check."""
        ...


class OpenAuthenticator:
    """An `OpenAuthenticator` gives every client all rights, as distribution does without `auth`."""

    def __init__(self) -> None:
        self._identity = Identity(None, ALL, is_open=True)

    def identify(self, authorization: str | None) -> Identity:  # noqa: ARG002 - part of the protocol
        """Return the anonymous identity with all rights for any Authorization header."""
        return self._identity
