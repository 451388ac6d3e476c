"""What of the access log is a use, and of what: pure."""

from __future__ import annotations

from collections.abc import Iterable

from datastore.accesslog import AccessLine
from datastore.errors import InvalidDigest
from datastore.refs import Digest
from datastore.uses import is_use


def stamps(lines: Iterable[AccessLine]) -> dict[Digest, float]:
    """Return when each digest was last used, in s, UTC epoch: the end of its latest answer."""
    latest: dict[str, float] = {}
    for line in lines:
        if is_use(line.method, line.kind, line.status):
            at = line.end
            if at > latest.get(line.digest, 0.0):
                latest[line.digest] = at
    return {digest: at for text, at in latest.items() if (digest := _digest(text)) is not None}


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
