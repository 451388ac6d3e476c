"""The door: every request passes here, and leaves with who it is and which place it means."""

from __future__ import annotations

import falcon

from datastore.refs import Repository
from datastore.repositories import Repositories
from registry.auth import Action, Authenticator, Identity
from registry.errors import NameUnknown
from registry.routing import Place, Upstreams, resolve

REPOSITORY = "X-Entrepot-Repository"
KIND = "X-Entrepot-Kind"
USER = "X-Entrepot-User"


class Door:
    """Identifies, routes, and checks the right, in that order."""

    def __init__(
        self, authenticator: Authenticator, upstreams: Upstreams, repositories: Repositories
    ) -> None:
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._repositories = repositories

    def identify(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Tell who it is, the access log too."""
        identity = self._authenticator.identify(req.get_header("Authorization"))
        if identity.user:
            resp.set_header(USER, identity.user.encode("ascii", "backslashreplace").decode())
        return identity

    def enter(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "pull"
    ) -> Place:
        """Let a request in. Raises: Unauthenticated, Forbidden, NameUnknown, Malformed."""
        identity = self.identify(req, resp)
        if not identity.rights:  # before a stranger learns which names lead anywhere
            identity.require(action)
        ns = req.get_param("ns") if "ns=" in req.query_string else None
        place = resolve(name, ns, self._upstreams, self._is_hosted)
        req.context.mirror_form = place.mirror_form
        resp.set_header(REPOSITORY, place.repository.name)
        identity.require(action, place.repository)
        if place.upstream:
            resp.set_header("OCI-Namespace", place.host)
        elif self._repositories.origin(place.repository):
            raise NameUnknown(f"{place.repository} came from an upstream that is none any more")
        return place

    def _is_hosted(self, name: Repository) -> bool:
        return self._repositories.exists(name) and self._repositories.origin(name) is None
