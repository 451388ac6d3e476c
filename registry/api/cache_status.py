"""Make the Cache-Status header (RFC 9211).

The header states whether the cache was used, and if not, why. HAProxy's access log takes its field
`cache` from Cache-Status, and the metrics take labels from that field.
"""

from __future__ import annotations

import re
from enum import StrEnum

NAME = "entrepot"
HIT = f"{NAME}; hit"
"""Most responses have this value of Cache-Status."""

# An identifier that consists of these characters is sent without quotes (RFC 9651, 3.3.4).
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*", re.ASCII)
# A quoted string consists of printable ASCII characters (RFC 9651, 3.3.3).
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Forward(StrEnum):
    """A `Forward` states why a request was forwarded to the upstream (RFC 9211, 2.2)."""

    BYPASS = "bypass"  # The registry does not use its cache for the request.
    URI_MISS = "uri-miss"  # The cache has no content under the requested name.
    STALE = "stale"  # The registry had to revalidate the stored response.
    PARTIAL = "partial"  # The cache has only a part of the content.
    REQUEST = "request"  # The client requested a fresh response.


def hit(*, ttl: float | None = None, detail: str | None = None) -> str:
    """Return the header value for a response from the cache.

    The response is fresh for *ttl* more seconds; if *ttl* is negative, the response is stale.
    """
    return HIT + _ttl(ttl) + _detail(detail)


def forwarded(
    why: Forward,
    *,
    status: int | None = None,
    ttl: float | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str | None = None,
) -> str:
    """Return the header value for a forwarded request.

    *status* is the upstream's status code, if it differs from the worker's. *collapsed* is True if
    one request was forwarded for several clients. *stored* is True if the response is stored.
    """
    upstream_status = "" if status is None else f"; fwd-status={status}"
    storage = "; stored" * stored + "; collapsed" * collapsed
    return f"{NAME}; fwd={why}{upstream_status}{_ttl(ttl)}{storage}{_detail(detail)}"


def neither(detail: str | None = None) -> str:
    """Return the header value for a response that the worker itself generated."""
    return NAME + _detail(detail)


def _ttl(ttl: float | None) -> str:
    return "" if ttl is None else f"; ttl={int(ttl)}"


def _detail(detail: str | None) -> str:
    if detail is None:
        return ""
    if _TOKEN.fullmatch(detail):
        return f"; detail={detail}"
    escaped = _UNPRINTABLE.sub("?", detail).replace("\\", "\\\\").replace('"', '\\"')
    return f'; detail="{escaped}"'
