"""Pin the content that a push needs, so that the cleaner does not evict it during the push."""

from __future__ import annotations

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
from entrepot.runtime.polling import poll

_GRACE_S = 3600.0
"""A pin lasts this many seconds if the worker dies during a push and does not remove the pin."""

# A push waits up to this many seconds for the cleaner to finish a removal. If the removal takes
# longer, the cleaner may have died.
_CLEANER_WAIT_S = 5.0
_POLL_S = 0.01


@contextmanager
def pinned(store: ContentStore, state: Path, digests: Iterable[Digest]) -> Iterator[None]:
    """Protect all *digests* from eviction until the manifest or link that needs them is written.

    If the cleaner has already marked some of *digests* for removal, this context begins only after
    the cleaner has removed them or abandoned their removal. When this context ends, the pins are
    removed, because the recorded use or the link now protects the content. *state* is the state
    directory.

    Raises: IndexUnavailable; Overloaded if the cleaner is slow to remove marked content.
    """
    protected, until = set(digests), store.clock() + _GRACE_S
    store.index.pins.pin(protected, until)
    try:
        _wait_for_cleaner(store, state, protected)
        yield
    finally:
        with suppress(IndexUnavailable):  # A pin that cannot be removed expires.
            store.index.pins.unpin(protected, until)


def _wait_for_cleaner(store: ContentStore, state: Path, protected: set[Digest]) -> None:
    """Wait until the cleaner has ended the removal of all *protected* digests."""
    if poll(lambda: not _marked(store.index, protected) or None, _CLEANER_WAIT_S, _POLL_S) is None:
        _unmark_if_dead(store, state, protected)


def _unmark_if_dead(store: ContentStore, state: Path, protected: set[Digest]) -> None:
    """Remove the marks of a dead cleaner, because the next cleaner would delete the marked content.

    The cleaner holds a lock during the whole removal. Raises: Overloaded if the lock is held,
    because a running cleaner is then about to remove the content that is being pushed.
    """
    with holding(state / layout.SWEEP_LOCK, _CLEANER_WAIT_S, is_kept=True) as lock:
        if lock is None:
            raise Overloaded(
                "an older copy of the pushed content is being removed: try again later"
            )
        _unmark(store, _marked(store.index, protected))


def record_use(store: ContentStore, digest: Digest, size: int) -> None:
    """Record in the index that content is stored and was used now.

    If the index already has a row for the content, this call keeps the row's kind and parts. The
    row replaces the reservation for the content's digest. Raises: IndexUnavailable.
    """
    entry = store.index.entry(digest)
    kind = entry.kind if entry else ContentKind.BLOB
    store.index.record(digest, size, kind, store.clock(), children=store.index.children(digest))


def _marked(index: AccessIndex, protected: set[Digest]) -> set[Digest]:
    return protected.intersection(entry.digest for entry in index.marked_for_deletion())


def _unmark(store: ContentStore, digests: set[Digest]) -> None:
    """Record a use of each digest, which removes the digest's mark for deletion."""
    for digest in digests:
        entry = store.index.entry(digest)
        if entry:
            record_use(store, digest, entry.size)
