"""The door: every request passes here, and leaves with who it is and which place it means."""

from __future__ import annotations

from collections.abc import Callable

import falcon

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.registry.api.edge_headers import EdgeHeaders
from entrepot.registry.api.login_log import LoginLog
from entrepot.registry.auth.identity import (
    Action,
    Authenticator,
    CachedPasswords,
    Identity,
    Queueing,
    user_of,
)
from entrepot.registry.errors import NameUnknown, Unsupported
from entrepot.registry.routing.resolve import ResolvedRepository, Upstreams, resolve

MayHost = Callable[[Repository], bool]
"""Tells which names are hosted here although a default upstream could have them."""

_READING = ("GET", "HEAD")

REPOSITORY = "X-Entrepot-Repository"
KIND = "X-Entrepot-Kind"
USER = "X-Entrepot-User"
ADDRESS = "X-Client-Address"
"""The client's address, where credentials were sent: HAProxy writes it."""

_NO_FRONT = EdgeHeaders()


def _remedy(resolved: ResolvedRepository) -> str:
    """Tell what an operator can do about a name that leads to an upstream and is pushed to."""
    first, slash, _ = resolved.remote.partition("/")
    if not resolved.mirror_form:
        left_out = f"upstreams.{resolved.host}.enabled: false"
        return f"push to another name, or leave that upstream out with {left_out}"
    if first == "library" and slash:  # nobody hosts these beside a default upstream
        return "push to another name"
    pattern = f"{first}/**" if slash else first
    return f"to push there, list it in the configuration, as in hosted: {{{pattern}: {{}}}}"


class Authorization:
    """Identifies, routes, and checks the right, in that order; *edge* stands before it."""

    def __init__(
        self,
        authenticator: Authenticator,
        upstreams: Upstreams,
        repositories: Repositories,
        may_host: MayHost = lambda _: False,
        *,
        edge: EdgeHeaders = _NO_FRONT,
    ) -> None:
        self.edge = edge
        self._authenticator = authenticator
        # PERF: asked once, for isinstance() of a protocol looks at every attribute
        self._recall = authenticator.recall if isinstance(authenticator, CachedPasswords) else None
        self._queueing = authenticator if isinstance(authenticator, Queueing) else None
        self._upstreams = upstreams
        self._repositories = repositories
        self._may_host = may_host
        self._logins = LoginLog()

    def identify(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Tell who it is, the access log too."""
        is_known = self.edge.begin(req, resp)
        authorization = req.get_header("Authorization")
        identity = self._identified(req, resp, authorization, is_known=is_known)
        if identity.mistaken and authorization:
            self.edge.count(resp)
            self._logins.failed(user_of(authorization), req.get_header(ADDRESS) or "")
        req.context.identity = identity
        if identity.user:
            # UTF-8's bytes: as HAProxy reads it from a credential that it remembers
            resp.set_header(USER, identity.user.encode().decode("latin-1"))
        return identity

    def _identified(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        authorization: str | None,
        *,
        is_known: bool,
    ) -> Identity:
        """Ask the authenticator, unless HAProxy remembers that the credential is right."""
        if is_known and authorization and self._recall:
            return self._recall(authorization)
        if authorization and self._queueing:
            identity = self._queueing.identify_for(authorization, self.edge.asker(req))
        else:
            identity = self._authenticator.identify(authorization)
        if authorization and not identity.mistaken:
            self.edge.remember(resp, identity)
        return identity

    def enter(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "pull"
    ) -> ResolvedRepository:
        """Let a request in. Raises: Unauthenticated, Forbidden, NameUnknown, Malformed."""
        identity = self.identify(req, resp)
        if not identity.rights:  # before a stranger learns which names lead anywhere
            identity.require(action)
        ns = req.get_param("ns") if "ns=" in req.query_string else None
        resolved = resolve(name, ns, self._upstreams, self._is_hosted, is_open=identity.is_open)
        req.context.mirror_form = resolved.mirror_form
        resp.set_header(REPOSITORY, resolved.repository.name)
        identity.require(action, resolved.repository)
        if resolved.upstream:
            resp.set_header("OCI-Namespace", resolved.host)
        elif self._repositories.origin(resolved.repository):
            raise NameUnknown(f"{resolved.repository} came from an upstream that is none any more")
        return resolved

    def enter_to_write(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "push"
    ) -> Repository:
        """Let a write in, if it is to a hosted repository: nobody writes for an upstream.

        Raises: Unsupported; Unauthenticated, Forbidden, NameUnknown, Malformed.
        """
        resolved = self.enter(req, resp, name, action)
        if resolved.upstream:
            raise Unsupported(f"{name} is {resolved.host}'s: {_remedy(resolved)}", _READING)
        if action == "push":
            self._make_hosted(resolved.repository)
        return resolved.repository

    def refuse(
        self, req: falcon.Request, resp: falcon.Response, name: str, allowed: tuple[str, ...]
    ) -> None:
        """Answer a method that is none here, but to strangers. Raises: Unsupported, always."""
        self.enter_to_write(req, resp, name)
        raise Unsupported(f"{req.method} is not done here", allowed)

    def readable(self, req: falcon.Request, name: str) -> ResolvedRepository | None:
        """Return the place that *name* leads to, if whoever entered may pull from it."""
        identity: Identity = req.context.identity
        try:
            resolved = resolve(name, None, self._upstreams, self._is_hosted)
        except (Malformed, NameUnknown):
            return None
        if not resolved.upstream and self._repositories.origin(resolved.repository):
            return None
        return resolved if identity.may("pull", resolved.repository) else None

    def _make_hosted(self, name: Repository) -> None:
        """Keep all of a repository from now on that another program fetched: it is pushed to."""
        if self._repositories.origin(name) == UNKNOWN_ORIGIN:
            self._repositories.forget_origin(name)

    def _is_hosted(self, name: Repository) -> bool:
        if self._may_host(name):
            return True
        return self._repositories.exists(name) and self._repositories.origin(name) is None
