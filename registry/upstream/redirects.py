"""Follows redirects by hand, and never tells another host a credential."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from registry.errors import Why
from registry.upstream.wire import Answer, Broken, Request, Wire

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST = 5


def follow(wire: Wire, request: Request, *, insecure: bool) -> Answer:
    """Send a GET or a HEAD, and go where it leads, at most five times.

    Only *insecure* goes from https to http. Raises: Broken.
    """
    start = _origin(request.url)
    for _ in range(_MOST + 1):
        answer = wire.send(request)
        if answer.status not in _REDIRECTS:
            answer.foreign = _origin(request.url) != start
            return answer
        location = answer.headers.get("Location", "")
        answer.close()
        request = _next(request, location, insecure=insecure)
    raise Broken(f"it redirects more than {_MOST} times", Why.NONSENSE)


def _next(request: Request, location: str, *, insecure: bool) -> Request:
    """Return the request for the next hop, without Authorization when the host is another."""
    if not location:
        raise Broken("it redirects to nowhere", Why.NONSENSE)
    try:
        url = urljoin(request.url, location)
        scheme, same = urlsplit(url).scheme, _origin(url) == _origin(request.url)
    except ValueError as error:
        raise Broken("it redirects to what is no URL", Why.NONSENSE) from error
    if scheme not in {"http", "https"}:
        raise Broken("it redirects to what is not HTTP", Why.NONSENSE)
    if scheme == "http" and request.url.startswith("https:") and not insecure:
        raise Broken("it redirects from https to http", Why.NONSENSE)
    kept = request.headers if same else _without_authorization(request)
    return replace(request, url=url, headers=kept)


def _without_authorization(request: Request) -> dict[str, str]:
    return {n: v for n, v in request.headers.items() if n.lower() != "authorization"}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    target = urlsplit(url)
    default = {"http": 80, "https": 443}.get(target.scheme)
    return target.scheme, target.hostname, target.port or default
