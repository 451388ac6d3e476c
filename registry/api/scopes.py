"""Compute the token scopes that a request needs, and the host that the client used.

The scopes depend only on method and URL, as in docker distribution (registry/handlers/app.go):
GET and HEAD need `pull`; POST, PUT and PATCH need `pull` and `push`; DELETE needs `delete`, even to
cancel an upload. A mount also needs `pull` from the source repository. The path `/v2/` needs no
scope.
"""

from __future__ import annotations

import re
from typing import Final

import falcon

from entrepot.registry.api import router
from entrepot.registry.challenges import ChallengedRequest, Scope
from entrepot.registry.routing.resolve import asked_name

SCHEME: Final = "X-Client-Scheme"
"""HAProxy sets this header to the scheme with which the client connected to HAProxy, or to a
proxy in front of HAProxy.
"""

BASE: Final = "X-Client-Base"
"""URLs in responses begin with this header's value, if `http.host`, `http.prefix` or
`http.relativeurls` is set.

The value of this header is a URL or a path. HAProxy sets this header, and removes it from the
requests of clients.
"""

_READING: Final = ("GET", "HEAD")
_CATALOG: Final = Scope("registry", "catalog", ("*",))
# A host has only these characters (RFC 9110, 4.2.3); a character such as `"` could end the quoted
# string of the challenge.
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}", re.ASCII)


def needed(req: falcon.Request, name: str | None) -> tuple[Scope, ...]:
    """Return the scopes that a request needs; *name* is the repository, or None for other paths.

    A request for the metrics needs the scope of the catalog, because the metrics name the upstreams
    of all repositories.
    """
    if name is None:
        return (_CATALOG,) if req.uri_template in {router.CATALOG, router.METRICS} else ()
    own = asked_name(name, req.get_param("ns") if "ns=" in req.query_string else None)
    source = req.get_param("from")
    if not source:
        return (Scope("repository", own, _actions(req.method)),)
    source = asked_name(source, None)
    if source == own:
        return (Scope("repository", own, tuple(dict.fromkeys(("pull", *_actions(req.method))))),)
    return (
        Scope("repository", own, _actions(req.method)),
        Scope("repository", source, ("pull",)),
    )


def challenged(req: falcon.Request, name: str | None) -> ChallengedRequest:
    """Return the data from which the challenge of a rejected request is made."""
    scheme, base = req.get_header(SCHEME) or "", req.get_header(BASE) or ""
    return ChallengedRequest(needed(req, name), host(req), scheme, base)


def host(req: falcon.Request) -> str:
    """Return the host and port that the client used; empty if the Host header is invalid."""
    netloc = req.netloc
    return netloc if _HOST.fullmatch(netloc) else ""


def _actions(method: str) -> tuple[str, ...]:
    if method in _READING:
        return ("pull",)
    return ("delete",) if method == "DELETE" else ("pull", "push")
