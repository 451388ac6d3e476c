"""What a push counts on stays: held against eviction before anybody looks whether it is here."""

from __future__ import annotations

import time
from collections.abc import Iterable

from datastore.index import AccessIndex, Kind
from datastore.refs import Digest
from registry.shelf import Shelf

_GRACE_S = 3600.0
"""How long a blob may wait for its manifest, in s."""

_PATIENCE_S = 5.0  # for the cleaner to end what it had begun; then it died over it
_POLL_S = 0.01


def hold(shelf: Shelf, digests: Iterable[Digest]) -> None:
    """Keep all of these, at once, for as long as a push may take.

    What the cleaner had marked before may still go: it has gone once this returns, or stays.
    Raises: IndexUnavailable.
    """
    wanted = set(digests)
    shelf.index.pin(wanted, shelf.clock() + _GRACE_S)
    deadline = time.monotonic() + _PATIENCE_S
    while going := _going(shelf.index, wanted):
        if time.monotonic() > deadline:
            _revive(shelf, going)
            return
        time.sleep(_POLL_S)


def use(shelf: Shelf, digest: Digest, size: int, kind: Kind = Kind.BLOB) -> None:
    """Note that content is here and was used now; what is known of it stays known.

    Raises: IndexUnavailable.
    """
    if shelf.index.entry(digest) is None:
        shelf.index.record(digest, size, kind, shelf.clock())
    else:
        shelf.index.touch({digest: shelf.clock()})


def _going(index: AccessIndex, wanted: set[Digest]) -> set[Digest]:
    return wanted.intersection(entry.digest for entry in index.leaving())


def _revive(shelf: Shelf, digests: set[Digest]) -> None:
    """Take back the mark of a cleaner that died: the next one would finish its work."""
    for digest in digests:
        entry = shelf.index.entry(digest)
        if entry:
            names = shelf.index.named(digest)
            shelf.index.record(digest, entry.size, entry.kind, shelf.clock(), names=names)
