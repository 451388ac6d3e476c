"""Identify the client of a request, resolve the repository, and check the client's rights.

This module also defines the headers that a worker and HAProxy exchange. HAProxy removes these
headers from requests of clients and from responses to clients. HAProxy serves a cached response
only to clients of the rights class for which a worker permitted caching. HAProxy also remembers the
credentials that a worker has verified (docs/internals/edge-cache.md). A worker reads the cache
epoch before any other state and sends the epoch with every response. A response that reflects the
state before a change therefore carries an old epoch, and HAProxy never uses such a response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.edge.cache_fill import CacheFill
from entrepot.registry.api import scopes
from entrepot.registry.api.login_log import LoginLog
from entrepot.registry.auth.basic import basic_credentials, user_of
from entrepot.registry.auth.identity import (
    Action,
    Authenticator,
    CachedPasswords,
    Identity,
    LoginSource,
    QueueingAuthenticator,
)
from entrepot.registry.auth.rules import ALL
from entrepot.registry.errors import NameUnknown, Unsupported
from entrepot.registry.routing.resolve import (
    ResolvedRepository,
    Upstreams,
    folded,
    resolve,
)

EPOCH = "X-Entrepot-Generation"
CACHEABILITY = "X-Entrepot-Keep"
RIGHTS = "X-Entrepot-Rights"
WRONG_CREDENTIALS = "X-Entrepot-Mistaken"
VERIFIED = "X-Entrepot-Verified"
SOURCE = "X-Entrepot-Source"
GUESSES = "X-Entrepot-Guesses"
REDIRECTED = "X-Entrepot-Redirected"
"""HAProxy sets this header if the client was redirected to the blob in the last two minutes."""

LARGEST_CACHED = 64 * 1024
"""HAProxy caches responses up to this size in bytes, headers included (max-object-size)."""

_LONGEST_CACHED = 60.0  # HAProxy may cache a response for at most this many seconds.
# A worker makes HAProxy fill its cache only with a response that stays fresh for at least this many
# seconds.
_SHORTEST_FILLED = 2.0
_KIND_USER, _KIND_ANONYMOUS = 1, 2


@dataclass(frozen=True, slots=True)
class EdgeHeaders:
    """An `EdgeHeaders` reads and writes the headers between this worker and HAProxy.

    *epoch* returns the cache epoch. If *epoch* is None, no HAProxy is in front of the worker, and
    the worker neither reads nor sends these headers. If *cache_fill* is None, repeated HEAD
    requests do not fill HAProxy's cache. If *may_repeat* is set, the worker's server is allowed to
    send the same response to an equal request without calling the application. If *has_cache* is
    False, HAProxy has no content cache, so `permit_caching` does nothing.
    """

    epoch: Callable[[], str] | None = None
    cache_fill: CacheFill | None = None
    may_repeat: bool = True
    has_cache: bool = True

    def set_epoch(self, req: falcon.Request, resp: falcon.Response) -> bool:
        """Set the cache epoch in the response, and return whether HAProxy knows the credential.

        HAProxy knows a credential that a worker verified in the current epoch. Call this method
        before any other state is read for the request, so that the epoch is never newer than that
        state.
        """
        if self.epoch is None:
            return False
        now = self.epoch()
        resp.set_header(EPOCH, now)
        return req.get_header(VERIFIED) == now

    def permission(self, req: falcon.Request, resp: falcon.Response) -> Callable[[], bool] | None:
        """Return a function that returns whether an equal request still has the same rights.

        Equal requests have the same rights until the cache epoch changes, so the returned function
        compares the current epoch with the epoch of this response. Return None if no response may
        be repeated. Also return None if HAProxy does not know the credential of the request: such a
        credential can expire before the epoch changes.
        """
        read_epoch = self.epoch
        if read_epoch is None or not self.may_repeat:
            return None
        now = resp.get_header(EPOCH)
        if req.get_header("Authorization") and req.get_header(VERIFIED) != now:
            return None
        return lambda: read_epoch() == now

    def login_source(self, req: falcon.Request) -> LoginSource:
        """Return the client's address, and whether it sent many wrong passwords for the user."""
        if self.epoch is None:
            return LoginSource()
        return LoginSource(req.get_header(SOURCE) or "", req.get_header(GUESSES) is not None)

    def report_verified(self, resp: falcon.Response, identity: Identity) -> None:
        """Let HAProxy remember the verified credential, with the client's rights class."""
        if self.epoch is not None:
            resp.set_header(RIGHTS, _rights_numbers(identity))

    def report_wrong_password(self, resp: falcon.Response) -> None:
        """Let HAProxy count a wrong password, even if the client is then served as anonymous."""
        if self.epoch is not None:
            resp.set_header(WRONG_CREDENTIALS, "1")

    def permit_caching(
        self, req: falcon.Request, resp: falcon.Response, cacheable_s: Callable[[], float]
    ) -> None:
        """Let HAProxy cache the response for the seconds that *cacheable_s* returns, 60 s at most.

        HAProxy cannot cache the response to a HEAD request. After repeated HEAD requests for the
        same path, `CacheFill` sends HAProxy a GET, whose response HAProxy can cache.
        """
        if self.epoch is None or not self.has_cache:
            return
        if req.method == "HEAD":
            self._fill_on_repeated_head(req, cacheable_s)
        elif (seconds := int(min(cacheable_s(), _LONGEST_CACHED))) > 0:
            resp.set_header(CACHEABILITY, str(seconds))

    def _fill_on_repeated_head(self, req: falcon.Request, cacheable_s: Callable[[], float]) -> None:
        authorization = req.get_header("Authorization")
        if self.cache_fill is None or (authorization and not req.get_header(VERIFIED)):
            return  # HAProxy caches no response for a credential that it does not know.
        key = (req.env["RAW_URI"], authorization)
        if self.cache_fill.is_repeated(key) and cacheable_s() >= _SHORTEST_FILLED:
            self.cache_fill.fill(key)


def _rights_numbers(identity: Identity) -> str:
    """Encode a rights class for HAProxy as three 32-bit numbers and the kind of client.

    A rights class consists of a letter and 24 hexadecimal digits (registry/auth/rules.py). The
    number for the kind of client is 1 for a user and 2 for an anonymous client.
    """
    digits = identity.rights_class[1:]
    parts = [int(digits[at : at + 8], 16) for at in (0, 8, 16)]
    kind = _KIND_USER if identity.user is not None else _KIND_ANONYMOUS
    return ".".join(map(str, (*parts, kind)))


MayHost = Callable[[Repository], bool]
"""A `MayHost` returns whether a repository without a host in its name is hosted.

Every other name without a host belongs to the default upstream.
"""

_READING = ("GET", "HEAD")
_READ_ONLY = "the registry is read-only: storage.maintenance.readonly.enabled is true"

REPOSITORY = "X-Entrepot-Repository"
KIND = "X-Entrepot-Kind"
USER = "X-Entrepot-User"
ADDRESS = "X-Client-Address"
"""If HAProxy does not know a request's credential, this header has the client's address."""

_NO_HAPROXY = EdgeHeaders()


def _remedy(resolved: ResolvedRepository) -> str:
    """Return the remedy in the error message for a push to a name that belongs to an upstream."""
    first, slash, _ = resolved.remote.partition("/")
    if not resolved.mirror_form:
        disabled = f"upstreams.{resolved.host}.enabled: false"
        return f"push to another name, or disable that upstream with {disabled}"
    # The setting `hosted:` has no effect on Docker Hub's official images (`library/...`).
    if first == "library" and slash:
        return "push to another name"
    pattern = f"{first}/**" if slash else first
    return f"to push to this name, list the name in the settings: hosted: {{{pattern}: {{}}}}"


class Authorization:
    """An `Authorization` identifies the client, resolves the repository and checks the rights.

    *edge* reads and writes the headers between HAProxy and this worker. If *read_only* is set,
    every write is rejected, as with docker distribution's storage.maintenance.readonly.
    """

    decides_by_repository = False
    """True if middleware may refuse a repository to a client that has rights everywhere."""

    def __init__(
        self,
        authenticator: Authenticator,
        upstreams: Upstreams,
        repositories: Repositories,
        may_host: MayHost = lambda _: False,
        *,
        edge: EdgeHeaders = _NO_HAPROXY,
        read_only: bool = False,
    ) -> None:
        self.edge = edge
        self._authenticator = authenticator
        # PERF: the constructor checks the type once, because isinstance() of a Protocol inspects
        # every attribute.
        self._identify_verified = (
            authenticator.identify_verified if isinstance(authenticator, CachedPasswords) else None
        )
        self._queueing = authenticator if isinstance(authenticator, QueueingAuthenticator) else None
        self._upstreams = upstreams
        self._repositories = repositories
        self._may_host = may_host
        self._is_read_only = read_only
        self._logins = LoginLog()

    def identify(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Return the identity of the client, and set the user header for the access log."""
        is_known = self.edge.set_epoch(req, resp)
        authorization = req.get_header("Authorization")
        identity = self._identified(req, resp, authorization, is_known=is_known)
        if identity.has_wrong_credentials and authorization:
            self.edge.report_wrong_password(resp)
            address = req.get_header(ADDRESS) or ""
            self._logins.failed(user_of(authorization), address, identity.refusal)
        req.context.identity = identity
        if identity.user:
            # WSGI encodes header values as Latin-1. After this conversion, the header contains the
            # name in UTF-8. HAProxy logs the same bytes when it decodes the name from the
            # credential itself.
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
        """Return the identity; if possible, skip the check of a credential that HAProxy knows."""
        if is_known and authorization and self._identify_verified:
            return self._identify_verified(authorization)
        if authorization and self._queueing:
            identity = self._queueing.identify_from(authorization, self.edge.login_source(req))
        else:
            identity = self._authenticator.identify(authorization)
        if authorization and not identity.has_wrong_credentials:
            self.edge.report_verified(resp, identity)
        return identity

    def identify_login(
        self, req: falcon.Request, resp: falcon.Response, user: str, password: str
    ) -> Identity:
        """Return the identity for a user and password from the body of a token request."""
        self.edge.set_epoch(req, resp)
        authorization = basic_credentials(user, password)
        if self._queueing:
            identity = self._queueing.identify_from(authorization, self.edge.login_source(req))
        else:
            identity = self._authenticator.identify(authorization)
        if identity.has_wrong_credentials:
            self.edge.report_wrong_password(resp)
            self._logins.failed(user, req.get_header(ADDRESS) or "")
        req.context.identity = identity
        if identity.user:
            resp.set_header(USER, identity.user.encode().decode("latin-1"))
        return identity

    def permitted_actions(self, identity: Identity, name: str) -> frozenset[Action]:
        """Return the actions that the client may perform in the repository *name*."""
        try:
            resolved = resolve(name, None, self._upstreams, self._is_hosted)
        except (Malformed, NameUnknown):
            return frozenset()
        return frozenset(each for each in ALL if identity.may(each, resolved.repository))

    def authorize_registry(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Return the identity of a client that requests a path without a repository.

        Raises: Unauthenticated if the client's token lacks the scope that the path needs.
        """
        identity = self.identify(req, resp)
        if identity.token is not None:
            identity.token.require(scopes.needed(req, None))
        return identity

    def authorize(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "pull"
    ) -> ResolvedRepository:
        """Return the resolved repository if the client has the right for *action*.

        Raises: Unauthenticated, Forbidden, NameUnknown, Malformed.
        """
        identity = self.identify(req, resp)
        if not identity.rights:  # An anonymous client must not learn which repository names exist.
            identity.require(action)
        if identity.token is not None:
            identity.token.require(scopes.needed(req, name))
        ns = req.get_param("ns") if "ns=" in req.query_string else None
        resolved = resolve(name, ns, self._upstreams, self._is_hosted, is_open=identity.is_open)
        req.context.mirror_form = resolved.mirror_form
        resp.set_header(REPOSITORY, resolved.repository.name)
        identity.require(action, resolved.repository)
        if resolved.upstream:
            resp.set_header("OCI-Namespace", resolved.host)
        elif self._repositories.origin(resolved.repository):
            raise NameUnknown(
                f"{resolved.repository} was mirrored from an upstream that is no longer configured"
            )
        return resolved

    def authorize_write(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "push"
    ) -> Repository:
        """Return the hosted repository if the client has the right for *action* on it.

        Raises: Unsupported if the name belongs to an upstream or the appliance is read-only;
        Unauthenticated, Forbidden, NameUnknown, Malformed.
        """
        resolved = self.authorize(req, resp, name, action)
        if resolved.upstream:
            raise Unsupported(
                f"{name} belongs to the upstream {resolved.host}: {_remedy(resolved)}", _READING
            )
        if self._is_read_only and req.method not in _READING:
            raise Unsupported(_READ_ONLY, _READING)
        if action == "push" and not self._is_read_only:
            self._make_hosted(resolved.repository)
        return resolved.repository

    def reject_method(
        self, req: falcon.Request, resp: falcon.Response, name: str, allowed: tuple[str, ...]
    ) -> None:
        """Check the client's rights, then reject the method of the request.

        Raises: Unsupported, always.
        """
        self.authorize_write(req, resp, name)
        raise Unsupported(f"the method {req.method} is not supported for this path", allowed)

    def readable_repository(self, req: falcon.Request, name: str) -> ResolvedRepository | None:
        """Return the repository *name* if the identified client may pull from it, else None."""
        identity: Identity = req.context.identity
        try:
            resolved = resolve(name, None, self._upstreams, self._is_hosted)
        except (Malformed, NameUnknown):
            return None
        if not resolved.upstream and self._repositories.origin(resolved.repository):
            return None
        if identity.token is not None and not identity.token.may_pull(folded(name)):
            return None
        return resolved if identity.may("pull", resolved.repository) else None

    def _make_hosted(self, name: Repository) -> None:
        """Mark a repository of unknown origin as hosted, because a client pushes to it."""
        if self._repositories.origin(name) == UNKNOWN_ORIGIN:
            self._repositories.remove_origin(name)

    def _is_hosted(self, name: Repository) -> bool:
        if self._may_host(name):
            return True
        return self._repositories.exists(name) and self._repositories.origin(name) is None
