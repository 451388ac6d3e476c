"""Make the challenge of a 401 response, the header WWW-Authenticate.

A Bearer challenge names the scope that the request needs, as in docker distribution, so that the
client can request exactly that scope from the token server ("Token Authentication Specification").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, Protocol

TokenError = Literal["invalid_token", "insufficient_scope"]
"""A `TokenError` states why the registry refused a token (RFC 6750, 3.1)."""

_UNQUOTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Scope:
    """A `Scope` is a resource with the needed actions, such as `repository:a/app:pull`."""

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class ChallengedRequest:
    """A `ChallengedRequest` holds the scopes that a request needs, and parts of its URL.

    `host` is the host and port that the client used; it is empty if the Host header is invalid.
    `scheme` is the scheme of the URL that the client used, empty if unknown. `base` is the URL or
    path that precedes the paths of this registry.
    """

    scopes: tuple[Scope, ...] = ()
    host: str = ""
    scheme: str = ""
    base: str = ""


class AuthChallenge(Protocol):
    """An `AuthChallenge` makes the value of the header WWW-Authenticate."""

    def header(self, request: ChallengedRequest) -> str:
        """Return the value of WWW-Authenticate for one request."""
        ...


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """A `BearerChallenge` makes the WWW-Authenticate header of token authentication.

    The realm is the URL at which the client requests a token. If `redirect` is set, the realm has
    the path `redirect` and the scheme and host that the client used; `scheme` replaces an unknown
    scheme. If `redirect` is not set, or if the host is unknown, the realm is the URL `realm`.
    `is_own` is True if this registry serves the realm; `ChallengedRequest.base` then precedes
    `redirect`. `fallback` is the whole header that is sent if no realm is known. `error` is the
    reason why the registry refused the client's token.
    """

    realm: str
    service: str
    redirect: str = ""
    scheme: str = "https"
    is_own: bool = False
    fallback: str = ""
    error: TokenError | None = None

    def failed(self, error: TokenError) -> BearerChallenge:
        """Return the challenge to send after a token was refused for the reason *error*."""
        return replace(self, error=error)

    def header(self, request: ChallengedRequest) -> str:
        """Return the header, with the parameters in docker distribution's order."""
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
    """A `SillyChallenge` is the challenge of docker distribution's `auth.silly`.

    Its header lists a separate scope for each action.
    """

    realm: str
    service: str

    def header(self, request: ChallengedRequest) -> str:
        """Return the value of the WWW-Authenticate header for one request."""
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
    """Return *text* as a quoted string (RFC 9110, 5.6.4); `?` replaces all but printable ASCII."""
    escaped = _UNQUOTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
