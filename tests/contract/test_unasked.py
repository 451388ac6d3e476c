"""The index of every driver lists prefetched content that no client has used."""

from __future__ import annotations

import pytest

from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.refs import Digest

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))


def _unused(index: AccessIndex, before: float = 100.0, limit: int = 10) -> list[Digest]:
    return [each.digest for each in index.prefetched_unused(before, limit)]


def test_unused_prefetched_rows_are_listed_the_oldest_first(index: AccessIndex) -> None:
    """`prefetched_unused` lists prefetched rows that no client has used, the oldest first.

    Rows whose prefetch began at the given time or later are left out. Rows that were not prefetched
    are left out, too.
    """
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=7.0)
    index.record(B, 1, ContentKind.BLOB, 8.0, prefetched_at=5.0)
    index.record(C, 1, ContentKind.BLOB, 6.0)

    assert _unused(index) == [B, A]
    assert _unused(index, limit=1) == [B]
    assert _unused(index, before=7.0) == [B]
    assert index.prefetched_unused(100.0, 1) == [index.entry(B)]


@pytest.mark.parametrize(("at", "left"), [(4.0, [A]), (5.0, [A]), (5.5, []), (20.0, [])])
def test_a_use_after_the_start_of_the_prefetch_makes_a_row_used(
    index: AccessIndex, at: float, left: list[Digest]
) -> None:
    """A prefetched row counts as used if a client used it after the prefetch began.

    A use from before the row was recorded counts too, because the logger can report it later.
    """
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)
    index.touch({A: at})

    assert _unused(index) == left


@pytest.mark.parametrize(("at", "left"), [(4.0, [A]), (20.0, [])])
def test_a_later_use_of_the_manifest_makes_a_row_used(
    index: AccessIndex, at: float, left: list[Digest]
) -> None:
    """A prefetched layer becomes used by a use of its manifest after the start of the prefetch.

    A client that has the layers requests only the manifest. The pull that started the prefetch does
    not count, because it is older than the prefetch.
    """
    index.record(B, 1, ContentKind.MANIFEST, 4.0, children=[A])
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)
    index.touch({B: at})

    assert _unused(index) == left


def test_the_access_time_of_a_prefetched_row_is_the_end_of_its_download(index: AccessIndex) -> None:
    """Until a client uses a prefetched blob, its access time is the end of its download."""
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)
    entry = index.entry(A)

    assert entry is not None
    assert entry.used == 9.0


def test_a_row_that_existed_before_counts_as_used(index: AccessIndex) -> None:
    """If a prefetched blob already had a row, the row is treated as used.

    A blob that has a row is prefetched again only if its file was lost.
    """
    index.record(A, 1, ContentKind.BLOB, 3.0)
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)

    assert _unused(index) == []


def test_a_removed_prefetched_row_is_not_listed_again(index: AccessIndex) -> None:
    """After an unused prefetched row is deleted, it is no longer listed.

    It is not listed even if a client's request later downloads the blob again.
    """
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)
    (entry,) = index.prefetched_unused(100.0, 10)

    assert index.mark_for_deletion(entry)
    assert _unused(index) == []
    index.forget(A)
    index.record(A, 1, ContentKind.BLOB, 12.0)
    assert _unused(index) == []


def test_a_row_that_was_used_meanwhile_is_not_marked(index: AccessIndex) -> None:
    """If a prefetched row is used after it was listed, it cannot be marked for deletion."""
    index.record(A, 1, ContentKind.BLOB, 9.0, prefetched_at=5.0)
    (entry,) = index.prefetched_unused(100.0, 10)
    index.touch({A: 10.0})

    assert not index.mark_for_deletion(entry)
