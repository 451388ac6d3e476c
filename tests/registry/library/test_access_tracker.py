"""The library collects access times and writes them to the index in batches."""

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
    """An index that tests can make unavailable and that counts its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.touched = 0
        for digest in (_A, _B):
            self.record(digest, 1, ContentKind.BLOB, 0.0)

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Record the accesses, unless the test has made the index unavailable."""
        if self.is_away:
            raise IndexUnavailable("away")
        self.touched += 1
        super().touch(accesses, notes)

    def used(self, digest: Digest) -> float:
        """Return the last use of *digest* in the index."""
        entry = self.entry(digest)
        assert entry is not None
        return entry.used


def test_a_batch_is_one_transaction_and_the_last_access_counts() -> None:
    """In one transaction, the tracker writes the time of the last access for each digest.

    Without accesses, the tracker opens no transaction.
    """
    index, times = Index(), iter((1.0, 2.0, 3.0))
    tracker = AccessTracker(index, clock=lambda: next(times))
    for digest in (_A, _B, _A):
        tracker.note(digest)

    assert tracker.flush()
    assert tracker.flush()

    assert (index.used(_A), index.used(_B), index.touched) == (3.0, 2.0, 1)


def test_access_times_are_kept_while_the_index_is_unavailable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the index is unavailable, the tracker keeps access times and logs one warning.

    If a digest is accessed several times, the tracker keeps the time of the last access.
    """
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


def test_the_tracker_flushes_periodically_and_when_stopped() -> None:
    """The tracker writes access times periodically and once more when the program stops it."""
    index = Index()
    tracker = AccessTracker(index)
    tracker.start()
    tracker.note(_A)
    eventually(lambda: index.used(_A), what="the index knows of it")

    tracker.note(_B)
    tracker.stop()

    assert index.used(_B)
