"""Extract access times from parsed lines of the access log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entrepot.datastore.accesslog import Repeated, is_access
from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.refs import Digest


def note_uses(lines: Iterable[Repeated], latest: dict[str, float]) -> None:
    """Update *latest*, which maps each digest to its access time in seconds since the UTC epoch.

    The access time is the end of the last response with the digest. The keys are texts: `stamps`
    parses each digest once for each commit, instead of once for each line.
    """
    for line, _ in lines:
        if is_access(line.method, line.kind, line.status):
            at = line.end
            if at > latest.get(line.digest, 0.0):
                latest[line.digest] = at


def stamps(latest: Mapping[str, float]) -> dict[Digest, float]:
    """Return *latest* with parsed digests as keys; skip texts that are not digests."""
    parsed = ((_digest(text), at) for text, at in latest.items())
    return {digest: at for digest, at in parsed if digest is not None}


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
