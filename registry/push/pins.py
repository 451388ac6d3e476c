"""What a push counts on stays: held against eviction before anybody looks whether it is here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.locks import holding
from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Overloaded

_GRACE_S = 3600.0
"""How long a push may take, in s, if we die over it and nobody lets go."""

_PATIENCE_S = 5.0  # for the cleaner to end what it had begun; then it may have died over it
_POLL_S = 0.01


@contextmanager
def hold(store: ContentStore, state: Path, digests: Iterable[Digest]) -> Iterator[None]:
    """Keep all of these, at once, until what leads to them is written.

    What the cleaner had marked before may still go: it has gone when this begins, or stays.
    After it, what was stamped or linked meanwhile holds by itself. *state* is the state directory.
    Raises: IndexUnavailable; Overloaded, while the cleaner is slow to remove one of these.
    """
    wanted, until = set(digests), store.clock() + _GRACE_S
    store.index.pin(wanted, until)
    try:
        _wait(store, state, wanted)
        yield
    finally:
        with suppress(IndexUnavailable):  # they end by themselves
            store.index.unpin(wanted, until)


def _wait(store: ContentStore, state: Path, wanted: set[Digest]) -> None:
    """Wait until the cleaner has ended what it had begun with any of these."""
    deadline = time.monotonic() + _PATIENCE_S
    while _going(store.index, wanted):
        if time.monotonic() > deadline:
            _take_back(store, state, wanted)
            return
        time.sleep(_POLL_S)


def _take_back(store: ContentStore, state: Path, wanted: set[Digest]) -> None:
    """Take back the marks of a cleaner that died, which the next one would act upon.

    One that lives and stands still would remove what is pushed now. It holds a lock while it
    removes, whatever the time that takes. Raises: Overloaded.
    """
    with holding(state / layout.SWEEP_LOCK, _PATIENCE_S) as held:
        if held is None:
            raise Overloaded("an older copy of this content is still being removed")
        _revive(store, _going(store.index, wanted))


def use(store: ContentStore, digest: Digest, size: int) -> None:
    """Note that content is here and was used now; a manifest stays one, with what it names.

    What was promised to it is its own from now on. Raises: IndexUnavailable.
    """
    entry = store.index.entry(digest)
    kind = entry.kind if entry else ContentKind.BLOB
    store.index.record(digest, size, kind, store.clock(), names=store.index.children(digest))


def _going(index: AccessIndex, wanted: set[Digest]) -> set[Digest]:
    return wanted.intersection(entry.digest for entry in index.marked_for_deletion())


def _revive(store: ContentStore, digests: set[Digest]) -> None:
    """Note a use of each, which takes its mark back."""
    for digest in digests:
        entry = store.index.entry(digest)
        if entry:
            use(store, digest, entry.size)
