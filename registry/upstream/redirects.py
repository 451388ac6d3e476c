"""Follow redirects, and remove the credential when a redirect leads to a different origin.

A later redirect back to the first origin does not restore the credential.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from entrepot.registry.errors import Why
from entrepot.registry.upstream.urls import Origin, origin_of, resolve_location
from entrepot.registry.upstream.wire import ConnectionBroken, Request, Response, Wire

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST = 5


def follow(wire: Wire, request: Request, *, home: Origin | None, insecure: bool) -> Response:
    """Send a GET or HEAD and follow at most five redirects; return the last response.

    The last response is `foreign` unless it came from *home*. A redirect from https to http is
    followed only if *insecure* is set. Raises: ConnectionBroken.
    """
    start = origin_of(request.url)
    for hop in range(_MOST + 1):
        is_elsewhere = hop > 0 and (start is None or origin_of(request.url) != start)
        response = _sent(wire, request, is_foreign=is_elsewhere)
        if response.status not in _REDIRECTS:
            response.foreign = home is None or origin_of(request.url) != home
            return response
        location = response.headers.get("Location", "")
        response.close()
        request = _next(request, location, insecure=insecure)
    raise ConnectionBroken(f"the upstream redirects more than {_MOST} times", Why.NONSENSE)


def _sent(wire: Wire, request: Request, *, is_foreign: bool) -> Response:
    try:
        return wire.send(request)
    except ConnectionBroken as error:
        error.foreign = is_foreign
        raise


def _next(request: Request, location: str, *, insecure: bool) -> Request:
    """Return the request for the redirect's target, without a credential if the origin changes."""
    if not location:
        raise ConnectionBroken("the upstream sent a redirect without a Location", Why.NONSENSE)
    try:
        url = resolve_location(request.url, location)
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ConnectionBroken("the upstream redirects to an invalid URL", Why.NONSENSE) from error
    if scheme not in {"http", "https"}:
        raise ConnectionBroken("the upstream redirects to a URL that is not HTTP", Why.NONSENSE)
    if scheme == "http" and request.url.startswith("https:") and not insecure:
        refused = ConnectionBroken("the upstream redirects from https to http", Why.NONSENSE)
        refused.is_final = True
        raise refused
    origin = origin_of(url)
    same = origin is not None and origin == origin_of(request.url)
    return replace(request, url=url, credential=request.credential if same else None)
