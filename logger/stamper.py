"""What of the access log is a use, and of what: pure."""

from __future__ import annotations

from collections.abc import Iterable

from datastore.accesslog import AccessLine
from datastore.errors import InvalidDigest
from datastore.refs import Digest

_MANIFESTS = ("manifest", "index")
_READ = (200, 206, 304)
_WRITTEN = 201
_USES = frozenset(
    [("GET", "blob", status) for status in _READ]
    + [
        (method, kind, status)
        for method in ("GET", "HEAD")
        for kind in _MANIFESTS
        for status in _READ
    ]
    + [("PUT", kind, _WRITTEN) for kind in _MANIFESTS]
    + [(method, kind, _WRITTEN) for method in ("PUT", "POST") for kind in ("blob", "upload")]
)
"""Method, kind and status of an answer that is a use, whether or not the client stayed for it."""


def stamps(lines: Iterable[AccessLine]) -> dict[Digest, float]:
    """Return when each digest was last used, in s, UTC epoch: the end of its latest answer."""
    latest: dict[str, float] = {}
    for line in lines:
        if (line.method, line.kind, line.status) in _USES:
            at = line.end
            if at > latest.get(line.digest, 0.0):
                latest[line.digest] = at
    return {digest: at for text, at in latest.items() if (digest := _digest(text)) is not None}


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
