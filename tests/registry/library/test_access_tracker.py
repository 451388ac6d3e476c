"""What is used, brought into the index in batches."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.registry.library.access_tracker import AccessTracker
from tests.system.waiting import eventually

_A, _B = Digest.of(b"a"), Digest.of(b"b")


class Index(MemoryIndex):
    """One that can be away, and counts its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.touched = 0
        for digest in (_A, _B):
            self.record(digest, 1, ContentKind.BLOB, 0.0)

    def touch(self, stamps: Mapping[Digest, float], notes: Mapping[str, str] | None = None) -> None:
        """Take stamps, unless it is away."""
        if self.is_away:
            raise IndexUnavailable("away")
        self.touched += 1
        super().touch(stamps, notes)

    def used(self, digest: Digest) -> float:
        """Return the last use that it knows of."""
        entry = self.entry(digest)
        assert entry is not None
        return entry.used


def test_uses_are_one_transaction_and_the_last_one_counts() -> None:
    """However many there were; of none there is no transaction."""
    index, times = Index(), iter((1.0, 2.0, 3.0))
    tracker = AccessTracker(index, clock=lambda: next(times))
    for digest in (_A, _B, _A):
        tracker.note(digest)

    assert tracker.flush()
    assert tracker.flush()

    assert (index.used(_A), index.used(_B), index.touched) == (3.0, 2.0, 1)


def test_what_the_index_did_not_take_is_brought_again(caplog: pytest.LogCaptureFixture) -> None:
    """With one warning; a later use is not undone by the earlier one that waited."""
    index, times = Index(), iter((1.0, 2.0, 3.0))
    tracker = AccessTracker(index, clock=lambda: next(times))
    index.is_away = True
    tracker.note(_A)
    assert not tracker.flush()
    tracker.note(_B)
    assert not tracker.flush()
    tracker.note(_A)
    index.is_away = False

    assert tracker.flush()

    assert (index.used(_A), index.used(_B)) == (3.0, 2.0)
    assert len(caplog.records) == 1


def test_it_flushes_by_itself_until_it_is_stopped() -> None:
    """And for the last time then."""
    index = Index()
    tracker = AccessTracker(index)
    tracker.start()
    tracker.note(_A)
    eventually(lambda: index.used(_A), what="the index knows of it")

    tracker.note(_B)
    tracker.stop()

    assert index.used(_B)
