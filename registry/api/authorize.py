"""The door: every request passes here, and leaves with who it is and which place it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.edge.cache_fill import CacheFill
from entrepot.registry.api.login_log import LoginLog
from entrepot.registry.auth.identity import (
    Action,
    Asker,
    Authenticator,
    CachedPasswords,
    Identity,
    Queueing,
    user_of,
)
from entrepot.registry.errors import NameUnknown, Unsupported
from entrepot.registry.routing.resolve import ResolvedRepository, Upstreams, resolve

GENERATION = "X-Entrepot-Generation"
KEEP = "X-Entrepot-Keep"
RIGHTS = "X-Entrepot-Rights"
MISTAKEN = "X-Entrepot-Mistaken"
VERIFIED = "X-Entrepot-Verified"
SOURCE = "X-Entrepot-Source"
GUESSES = "X-Entrepot-Guesses"

LARGEST_KEPT = 64 * 1024
"""Bytes of an answer that HAProxy takes into its memory (haproxy.cfg, max-object-size)."""

_LONGEST_KEPT = 60.0  # s
_LEAST_FILLED = 2.0  # s
_A_USER, _NOBODY = 1, 2


@dataclass(frozen=True, slots=True)
class EdgeHeaders:
    """HAProxy before this worker; *generation* None: there is none, so nobody is believed.

    *filler* None: what is only asked about with HEAD stays a worker's to answer.
    """

    epoch: Callable[[], str] | None = None
    cache_fill: CacheFill | None = None

    def begin(self, req: falcon.Request, resp: falcon.Response) -> bool:
        """Date an answer before anything is looked at; tell whether the credential is known."""
        if self.epoch is None:
            return False
        now = self.epoch()
        resp.set_header(GENERATION, now)
        return req.get_header(VERIFIED) == now

    def asker(self, req: falcon.Request) -> Asker:
        """Return who brings a credential, as HAProxy says; without it, nobody in particular."""
        if self.epoch is None:
            return Asker()
        return Asker(req.get_header(SOURCE) or "", req.get_header(GUESSES) is not None)

    def remember(self, resp: falcon.Response, identity: Identity) -> None:
        """Have a credential remembered that was just found right."""
        if self.epoch is not None:
            resp.set_header(RIGHTS, _numbers(identity))

    def count(self, resp: falcon.Response) -> None:
        """Have a wrong password counted, also where the answer needs none."""
        if self.epoch is not None:
            resp.set_header(MISTAKEN, "1")

    def keep(self, req: falcon.Request, resp: falcon.Response, holds: Callable[[], float]) -> None:
        """Allow an answer to be kept that *holds* so many s: whole ones, and a minute at most.

        A HEAD can't be kept: the GET that could is made, if this was asked about before.
        """
        if self.epoch is None:
            return
        if req.method == "HEAD":
            self._follow(req, holds)
        elif (seconds := int(min(holds(), _LONGEST_KEPT))) > 0:
            resp.set_header(KEEP, str(seconds))

    def _follow(self, req: falcon.Request, holds: Callable[[], float]) -> None:
        authorization = req.get_header("Authorization")
        if self.cache_fill is None or (authorization and not req.get_header(VERIFIED)):
            return  # nothing is kept for who is not known yet
        asked = (req.env["RAW_URI"], authorization)
        if self.cache_fill.is_repeated(asked) and holds() >= _LEAST_FILLED:
            self.cache_fill.fill(asked)


def _numbers(identity: Identity) -> str:
    """Write a rights class as HAProxy can store it: three numbers of 32 bits, and one for the kind.

    The class is a letter and 24 digits, to the base of 16 (registry/auth/rules.py).
    """
    digits = identity.rights_class[1:]
    parts = [int(digits[at : at + 8], 16) for at in (0, 8, 16)]
    kind = _A_USER if identity.user is not None else _NOBODY
    return ".".join(map(str, (*parts, kind)))


MayHost = Callable[[Repository], bool]
"""Tells which names are hosted here although a default upstream could have them."""

_READING = ("GET", "HEAD")

REPOSITORY = "X-Entrepot-Repository"
KIND = "X-Entrepot-Kind"
USER = "X-Entrepot-User"
ADDRESS = "X-Client-Address"
"""The client's address, where credentials were sent: HAProxy writes it."""

_NO_EDGE = EdgeHeaders()


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
        edge: EdgeHeaders = _NO_EDGE,
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
            self._repositories.remove_origin(name)

    def _is_hosted(self, name: Repository) -> bool:
        if self._may_host(name):
            return True
        return self._repositories.exists(name) and self._repositories.origin(name) is None
