"""Extract access times from lines of the access log.

The functions of this module only compute: they read and write no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entrepot.datastore.accesslog import Repeated, is_access
from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.refs import Digest


def note_uses(lines: Iterable[Repeated], latest: dict[str, float]) -> None:
    """Update the access times in *latest*: the end of the last response with each digest.

    The access times are in s, UTC epoch. Digests stay text here, so that `stamps` parses each
    digest once per commit and not once per line.
    """
    for line, _ in lines:
        if is_access(line.method, line.kind, line.status):
            at = line.end
            if at > latest.get(line.digest, 0.0):
                latest[line.digest] = at


def stamps(latest: Mapping[str, float]) -> dict[Digest, float]:
    """Return the access time of each digest; leave out texts that are not digests."""
    parsed = ((_digest(text), at) for text, at in latest.items())
    return {digest: at for digest, at in parsed if digest is not None}


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
