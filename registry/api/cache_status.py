"""The Cache-Status header of RFC 9211: whether an answer came from here, and if not, why.

The access log takes its `cache` field from it, and the metrics their labels.
"""

from __future__ import annotations

import re
from enum import StrEnum

NAME = "entrepot"
HIT = f"{NAME}; hit"
"""What nearly every answer says."""

# RFC 9651, 3.3.4: what may stand without quotes
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*", re.ASCII)
# RFC 9651, 3.3.3: a string is printable ASCII
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Forward(StrEnum):
    """Why a request went on to the upstream (RFC 9211, 2.2)."""

    BYPASS = "bypass"  # never kept here
    URI_MISS = "uri-miss"  # nothing is kept under that name
    STALE = "stale"  # what is kept had to be looked at again
    PARTIAL = "partial"  # a part of it is kept
    REQUEST = "request"  # the client asked for a fresh one


def hit(*, ttl: float | None = None, detail: str | None = None) -> str:
    """Say that it came from here, fresh for another *ttl* s; negative: stale."""
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
    """Say that the upstream was asked; *status* is its answer, where it differs from ours.

    *collapsed*: it was asked once for several clients. *stored*: the answer is kept.
    """
    said = "" if status is None else f"; fwd-status={status}"
    kept = "; stored" * stored + "; collapsed" * collapsed
    return f"{NAME}; fwd={why}{said}{_ttl(ttl)}{kept}{_detail(detail)}"


def neither(detail: str | None = None) -> str:
    """Say that the answer was made here, of nothing that is kept."""
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
