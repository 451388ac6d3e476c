"""How long a tag may be trusted, and what to say when it is trusted beyond that. Pure."""

from __future__ import annotations

from entrepot.datastore.repositories import TagState
from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError, Why
from entrepot.registry.upstream.upstream_config import UpstreamConfig


def is_fresh(state: TagState, source: UpstreamConfig, now: float) -> bool:
    """Whether a tag was confirmed recently enough not to ask again; *now* in s, UTC epoch."""
    return 0 <= now - state.confirmed <= source.freshness


def may_be_stale(state: TagState, source: UpstreamConfig, error: UpstreamError, now: float) -> bool:
    """Whether what we have may be shown although the upstream did not confirm it."""
    if source.max_stale is not None and now - state.confirmed > source.max_stale:
        return False
    return not _is_gone(error) or source.on_gone == "serve"


_REASONS = {
    Why.REFUSED: "refused",
    Why.NONSENSE: "error",
    Why.TIMEOUT: "timeout",
    Why.RESTING: "resting",
    Why.LIMITED: "limited",
    Why.UNSUPPORTED: "unsupported",
}


def reason(error: UpstreamError) -> str:
    """Return the one word for it that Cache-Status shows and the metrics count by."""
    if isinstance(error, Unavailable):
        return _REASONS[error.why]
    return "gone" if isinstance(error, Absent) else "denied"


def warning(error: UpstreamError) -> str:
    """Return the text of the `Warning` that goes with a stale answer (OCI spec, "Warnings")."""
    if isinstance(error, Absent):
        reason = "no longer has it"
    elif _is_gone(error):
        reason = "refuses it"
    elif isinstance(error, Unavailable) and error.why is Why.UNSUPPORTED:
        reason = "now has a manifest of an unsupported type"
    else:
        reason = "is unavailable"
    return f"served stale: {error.upstream} {reason}"


def _is_gone(error: UpstreamError) -> bool:
    return isinstance(error, Absent | Denied)
