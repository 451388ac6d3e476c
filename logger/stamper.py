"""What of the access log is a use, and of what: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datastore.accesslog import Repeated
from datastore.errors import InvalidDigest
from datastore.refs import Digest
from datastore.uses import is_use


def note_uses(lines: Iterable[Repeated], latest: dict[str, float]) -> None:
    """Move on what *latest* says of each digest: when the latest answer with it ended.

    In s, UTC epoch; as text, for `stamps` to look at it once a commit and not once a line.
    """
    for line, _ in lines:
        if is_use(line.method, line.kind, line.status):
            at = line.end
            if at > latest.get(line.digest, 0.0):
                latest[line.digest] = at


def stamps(latest: Mapping[str, float]) -> dict[Digest, float]:
    """Return when each digest was last used; a line about something else used nothing."""
    parsed = ((_digest(text), at) for text, at in latest.items())
    return {digest: at for digest, at in parsed if digest is not None}


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
