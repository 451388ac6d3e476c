"""The door: every request passes here, and leaves with who it is and which place it means."""

from __future__ import annotations

from typing import Protocol

import falcon

from datastore.refs import Repository
from datastore.repositories import Repositories
from registry.errors import NameUnknown
from registry.routing import Place, Upstreams, resolve

REPOSITORY = "X-Entrepot-Repository"
KIND = "X-Entrepot-Kind"
USER = "X-Entrepot-User"


class Identity(Protocol):
    """Somebody, or nobody; `user` is empty for nobody."""

    @property
    def user(self) -> str | None:
        """His name."""
        ...

    def require(self, action: str, repository: str) -> None:
        """Let him, or raise Unauthenticated (nobody) or Forbidden (somebody)."""
        ...


class Authenticator(Protocol):
    """Tells who sends a request; raises Unauthenticated."""

    def identify(self, authorization: str | None) -> Identity:
        """Read an Authorization header."""
        ...


class Door:
    """Identifies, routes, and checks the right, in that order."""

    def __init__(
        self, authenticator: Authenticator, upstreams: Upstreams, repositories: Repositories
    ) -> None:
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._repositories = repositories

    def identify(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Tell who it is. Raises: Unauthenticated."""
        identity = self._authenticator.identify(req.get_header("Authorization"))
        if identity.user:
            resp.set_header(USER, identity.user)
        return identity

    def enter(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: str = "pull"
    ) -> Place:
        """Let a request in. Raises: Unauthenticated, Forbidden, NameUnknown, Malformed."""
        identity = self.identify(req, resp)
        ns = req.get_param("ns") if "ns=" in req.query_string else None
        place = resolve(name, ns, self._upstreams, self._is_hosted)
        req.context.mirror_form = place.mirror_form
        resp.set_header(REPOSITORY, place.repository.name)
        identity.require(action, place.repository.name)
        if place.upstream:
            resp.set_header("OCI-Namespace", place.host)
        elif self._repositories.origin(place.repository):
            raise NameUnknown(f"{place.repository} came from an upstream that is none any more")
        return place

    def _is_hosted(self, name: Repository) -> bool:
        return self._repositories.exists(name) and self._repositories.origin(name) is None
