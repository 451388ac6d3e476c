"""The Cache-Status header (RFC 9211): whether a response came from the cache, and if not, why.

HAProxy's access log takes its `cache` field from Cache-Status, and the metrics take labels from
that field.
"""

from __future__ import annotations

import re
from enum import StrEnum

NAME = "entrepot"
HIT = f"{NAME}; hit"
"""Nearly every response has this value."""

# a token needs no quotes: RFC 9651, 3.3.4
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*", re.ASCII)
# RFC 9651, 3.3.3: a string is printable ASCII
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Forward(StrEnum):
    """A `Forward` states why a request was forwarded to the upstream (RFC 9211, 2.2)."""

    BYPASS = "bypass"  # the cache is not used for this request
    URI_MISS = "uri-miss"  # no content is stored under that name
    STALE = "stale"  # the stored response had to be revalidated
    PARTIAL = "partial"  # a part of the content is stored
    REQUEST = "request"  # the client requested a fresh response


def hit(*, ttl: float | None = None, detail: str | None = None) -> str:
    """Return the value for a stored response that is fresh for *ttl* s; negative: stale."""
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
    """Return the value for a forwarded request.

    *status* is the upstream's, if it differs from ours. *collapsed*: one request was forwarded for
    several clients. *stored*: the response is stored.
    """
    upstream_status = "" if status is None else f"; fwd-status={status}"
    storage = "; stored" * stored + "; collapsed" * collapsed
    return f"{NAME}; fwd={why}{upstream_status}{_ttl(ttl)}{storage}{_detail(detail)}"


def neither(detail: str | None = None) -> str:
    """Return the value for a response that the worker generated without stored content."""
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
