"""The challenges of 401 responses: WWW-Authenticate for the request that lacks a right.

A Bearer challenge names the scope that the request needs, as docker distribution's does, so that
the client can ask its token server for exactly that ("Token Authentication Specification").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, Protocol

TokenError = Literal["invalid_token", "insufficient_scope"]
"""A `TokenError` states why a token was refused (RFC 6750, 3.1)."""

_UNQUOTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Scope:
    """A `Scope` is a resource with the actions that a request needs, `repository:a/app:pull`."""

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class ChallengedRequest:
    """What a challenge depends on: the needed scopes, and how the client reached this registry.

    `host` is the host and port that the client used; empty if it is not a valid one. `scheme` is
    empty if it is unknown. `base` is a URL or a path that precedes the paths of this registry.
    """

    scopes: tuple[Scope, ...] = ()
    host: str = ""
    scheme: str = ""
    base: str = ""


class AuthChallenge(Protocol):
    """Makes the value of WWW-Authenticate."""

    def header(self, request: ChallengedRequest) -> str:
        """Return the value for one request."""
        ...


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """The challenge of token authentication.

    With `redirect` the realm is that path on the host that the client used, and `scheme` applies if
    the scheme of the client is unknown; `realm` is used if the host is not known. `is_own`: the
    path is one of this registry, so the URL begins as its other URLs. `fallback` is the whole
    header if there is no realm. `error` is the reason for which a token was refused.
    """

    realm: str
    service: str
    redirect: str = ""
    scheme: str = "https"
    is_own: bool = False
    fallback: str = ""
    error: TokenError | None = None

    def failed(self, error: TokenError) -> BearerChallenge:
        """Return the challenge after a token that was refused for *error*."""
        return replace(self, error=error)

    def header(self, request: ChallengedRequest) -> str:
        """Return the header; the order of the parameters is docker distribution's."""
        realm = self._realm(request)
        if not realm:
            return self.fallback
        parts = [f"Bearer realm={quoted(realm)}", f"service={quoted(self.service)}"]
        if request.scopes:
            parts.append(f"scope={quoted(' '.join(map(str, request.scopes)))}")
        if self.error:
            parts.append(f'error="{self.error}"')
        return ",".join(parts)

    def _realm(self, request: ChallengedRequest) -> str:
        base = request.base if self.is_own else ""
        if self.redirect and base.startswith("http"):
            return f"{base}{self.redirect}"
        if self.redirect and request.host:
            return f"{request.scheme or self.scheme}://{request.host}{base}{self.redirect}"
        return self.realm


@dataclass(frozen=True, slots=True)
class SillyChallenge:
    """A `SillyChallenge` is that of docker distribution's `silly`: one scope for each action."""

    realm: str
    service: str

    def header(self, request: ChallengedRequest) -> str:
        """Return the header."""
        scopes = tuple(
            Scope(each.kind, each.name, (action,))
            for each in request.scopes
            for action in each.actions
        )
        return BearerChallenge(self.realm, self.service).header(ChallengedRequest(scopes))


def basic_challenge(realm: str) -> str:
    """Return the challenge of Basic authentication, which is the same for every request."""
    return f"Basic realm={quoted(realm)}"


def quoted(text: str) -> str:
    """Return *text* as a quoted string (RFC 9110, 5.6.4); other than ASCII becomes `?`."""
    escaped = _UNQUOTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
