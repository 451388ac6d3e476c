"""The index of every driver returns rows in the order of eviction and deletes rows."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind, Cursor, Index, IndexEntry
from entrepot.datastore.refs import Digest
from tests.sizes import scaled

A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
ROW = IndexEntry(A, 10, ContentKind.BLOB, 5.0)
# a floating-point number that no short decimal number represents exactly
ODD_TIME = 1_700_000_000.1 + 0.2


def _record(index: Index, entry: IndexEntry) -> None:
    index.record(entry.digest, entry.size, entry.kind, entry.used)


def _pages(index: Index, limit: int) -> list[IndexEntry]:
    """Return the rows of all pages, each of at most *limit* rows, in the order of eviction."""
    entries: list[IndexEntry] = []
    while page := index.oldest(Cursor.after(entries[-1]) if entries else None, limit):
        assert len(page) <= limit
        entries += page
    return entries


class TestOldest:
    """`oldest` of an index returns pages of rows in the order of eviction."""

    def test_the_least_recently_used_row_is_first(self, index: Index) -> None:
        """The least recently used row comes first, in whatever order the rows were recorded."""
        rows = [
            IndexEntry(digest, 1, ContentKind.BLOB, used) for digest, used in ((A, 3.0), (B, 1.0))
        ]
        for row in rows:
            _record(index, row)

        assert index.oldest(None, 10) == rows[::-1]

    def test_at_equal_times_an_index_is_before_its_manifests_and_they_before_their_layers(
        self, index: Index
    ) -> None:
        """Content with equal last uses is evicted in this order: OCI index, manifest, layer.

        So no remaining manifest ever refers to an evicted manifest or layer.
        """
        index.record(C, 1, ContentKind.BLOB, 1.0)
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(A, 1, ContentKind.INDEX, 1.0, children=[B])

        index.touch({A: 7.0})

        assert [entry.digest for entry in index.oldest(None, 10)] == [A, B, C]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    def test_pages_have_no_gaps_and_no_overlaps(self, index: Index, limit: int) -> None:
        """Pages of rows have no gaps and no overlaps, even if many rows have equal times."""
        places = itertools.product((1.0, 2.0), ContentKind, range(4))
        rows = [
            IndexEntry(Digest.of(repr(place).encode()), 1, place[1], place[0]) for place in places
        ]
        for row in rows:
            _record(index, row)

        assert _pages(index, limit) == sorted(rows, key=Cursor.after)

    def test_digests_of_both_algorithms_are_sorted_as_text(self, index: Index) -> None:
        """Rows with equal times are sorted by digest as text, across digest algorithms.

        The cursor between pages compares digests as text, too.
        """
        rows = [
            IndexEntry(Digest.of(bytes([n]), algorithm), 1, ContentKind.BLOB, 1.0)
            for n in range(20)
            for algorithm in ("sha512", "sha256")
        ]
        for row in rows:
            _record(index, row)

        assert _pages(index, 3) == sorted(rows, key=lambda row: str(row.digest))

    def test_a_touched_row_is_found_again_on_a_later_page(self, index: Index) -> None:
        """If a row is used while a sweep reads pages, a later page returns it with its new time."""
        for digest, used in ((A, 1.0), (B, 2.0)):
            _record(index, IndexEntry(digest, 1, ContentKind.BLOB, used))
        (first,) = index.oldest(None, 1)

        index.touch({A: 9.0})

        rest = index.oldest(Cursor.after(first), 10)
        assert [(entry.digest, entry.used) for entry in rest] == [(B, 2.0), (A, 9.0)]


class TestUnnamed:
    """`unreferenced` returns pages of rows to which no other row refers."""

    def test_referenced_rows_are_excluded(self, index: Index) -> None:
        """`unreferenced` leaves out a row to which a manifest's row refers."""
        index.record(C, 1, ContentKind.BLOB, 1.0)
        index.record(D, 1, ContentKind.BLOB, 2.0)
        index.record(B, 1, ContentKind.MANIFEST, 3.0, children=[C, C])

        assert [entry.digest for entry in index.unreferenced(None, 10)] == [D, B]
        first = index.unreferenced(None, 1)
        assert [entry.digest for entry in index.unreferenced(Cursor.after(first[0]), 1)] == [B]

    def test_a_row_is_included_again_after_the_removal_of_its_manifest(self, index: Index) -> None:
        """When the row of a manifest is deleted, `unreferenced` returns the rows of its parts."""
        index.record(C, 1, ContentKind.BLOB, 1.0)
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.mark_for_deletion(IndexEntry(B, 1, ContentKind.MANIFEST, 1.0))
        assert index.unreferenced(None, 10) == []

        index.forget(B)

        assert [entry.digest for entry in index.unreferenced(None, 10)] == [C]


class TestNaming:
    """`parents` returns the manifests that refer to a digest."""

    def test_each_referencing_manifest_is_listed_once(self, index: Index) -> None:
        """`parents` returns all manifests that refer to a digest, and no manifest twice.

        A manifest can refer to a digest twice, and the digest can have no row.
        """
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C, C])
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C, D])

        assert sorted(index.parents(C)) == sorted([A, B])
        assert index.parents(A) == []

    def test_a_removed_manifest_is_not_listed(self, index: Index) -> None:
        """`parents` returns manifests that are marked for deletion, but not deleted manifests."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.mark_for_deletion(IndexEntry(A, 1, ContentKind.MANIFEST, 1.0))
        assert index.parents(C) == [A]

        index.forget(A)

        assert index.parents(C) == []


class TestLeave:
    """`mark_for_deletion` marks a row only if the row is unchanged since the cleaner read it."""

    def test_a_marked_row_is_counted_and_listed_but_on_no_page(self, index: Index) -> None:
        """A row that is marked for deletion still counts against the cap.

        `oldest` no longer returns such a row. The file of a marked row can still exist, so its
        bytes must still count. Another cleaner can use the list of marked rows to complete the
        deletion.
        """
        _record(index, ROW)

        assert index.mark_for_deletion(ROW) is True
        assert (index.oldest(None, 10), index.marked_for_deletion()) == ([], [ROW])
        assert (index.entry(A), index.count(), index.reservations.used_bytes()) == (
            ROW,
            1,
            10 + OVERHEAD,
        )

    def test_a_row_that_was_used_meanwhile_is_not_marked(self, index: Index) -> None:
        """If a row was used after the cleaner had read it, it is not marked for deletion."""
        _record(index, ROW)
        index.touch({A: 6.0})

        assert index.mark_for_deletion(ROW) is False
        assert index.marked_for_deletion() == []

    def test_a_row_that_was_recorded_with_another_kind_is_not_marked(self, index: Index) -> None:
        """If the kind of a row changed after the cleaner read it, the row is not marked."""
        _record(index, ROW)
        index.record(A, 10, ContentKind.MANIFEST, 5.0)

        assert index.mark_for_deletion(ROW) is False

    def test_an_absent_or_marked_row_is_not_marked(self, index: Index) -> None:
        """`mark_for_deletion` returns False for a row that is absent or already marked.

        So if two cleaners sweep at the same time, only one deletes the content.
        """
        assert index.mark_for_deletion(ROW) is False

        _record(index, ROW)

        assert (index.mark_for_deletion(ROW), index.mark_for_deletion(ROW)) == (True, False)

    def test_times_are_compared_exactly(self, index: Index) -> None:
        """`mark_for_deletion` compares times exactly, for any floating-point number."""
        row = IndexEntry(A, 10, ContentKind.BLOB, ODD_TIME)
        _record(index, row)

        assert index.oldest(None, 1) == [row]
        assert index.mark_for_deletion(row) is True


class TestForget:
    """`forget` deletes the row of content whose file was deleted."""

    def test_a_marked_row_is_deleted(self, index: Index) -> None:
        """`forget` deletes a marked row, and its bytes no longer count against the cap.

        A second call changes nothing.
        """
        _record(index, ROW)
        index.mark_for_deletion(ROW)

        index.forget(A)
        index.forget(A)

        assert (index.entry(A), index.marked_for_deletion(), index.reservations.used_bytes()) == (
            None,
            [],
            0,
        )

    def test_an_unmarked_row_stays(self, index: Index) -> None:
        """`forget` does not delete a row without a mark."""
        _record(index, ROW)

        index.forget(A)

        assert index.entry(A) == ROW

    def test_a_row_that_was_recorded_again_stays(self, index: Index) -> None:
        """`forget` does not delete a row that was recorded again after it was marked."""
        _record(index, ROW)
        index.mark_for_deletion(ROW)

        _record(index, ROW)
        index.forget(A)

        assert (index.oldest(None, 1), index.marked_for_deletion()) == ([ROW], [])

    @pytest.mark.parametrize("is_marked", [False, True])
    def test_discard_removes_a_row_in_any_state(self, index: Index, *, is_marked: bool) -> None:
        """`discard` removes a row and its edges, even if the content is pinned or has no mark.

        A digest without a row is no error.
        """
        index.record(B, 5, ContentKind.MANIFEST, 5.0, children=[A])
        _record(index, ROW)
        if is_marked:
            index.mark_for_deletion(ROW)
        index.pins.pin([A, B], time.time() + 3600)

        for digest in (A, B, B):
            index.discard(digest)

        assert (index.entry(A), index.entry(B)) == (None, None)
        assert (index.children(B), list(index.parents(A))) == ([], [])
        assert (index.marked_for_deletion(), index.reservations.used_bytes()) == ([], 0)

    def test_a_touch_does_not_unmark_a_row(self, index: Index) -> None:
        """A use of content leaves its row marked, because the file may already be deleted.

        Only a download or push removes the mark, because it records the row again after it has
        stored the file.
        """
        _record(index, ROW)
        index.mark_for_deletion(ROW)

        index.touch({A: 9.0})
        index.forget(A)

        assert index.entry(A) is None


_LAYERS = [Digest.of(f"layer {n}".encode()) for n in range(3)]
_MANIFESTS = [Digest.of(f"manifest {n}".encode()) for n in range(2)]
_INDEX = Digest.of(b"index")
_NAMES = {_MANIFESTS[0]: _LAYERS[:2], _MANIFESTS[1]: _LAYERS[1:], _INDEX: _MANIFESTS}
_KINDS = {_INDEX: ContentKind.INDEX, **dict.fromkeys(_MANIFESTS, ContentKind.MANIFEST)}


@settings(
    deadline=None,
    max_examples=scaled(15, 100),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["record", "touch", "restore", "evict"]),
            st.sampled_from([*_LAYERS, *_MANIFESTS, _INDEX]),
            st.integers(1, 20),
        ),
        max_size=25,
    )
)
def test_a_manifest_is_always_evicted_before_its_parts(
    index: Index, steps: list[tuple[str, Digest, int]]
) -> None:
    """A manifest is always evicted before its parts, and the index's totals stay correct.

    This holds for any sequence of records, touches, restores and evictions.
    """
    _empty(index)
    for verb, digest, at in steps:
        kind = _KINDS.get(digest, ContentKind.BLOB)
        if verb == "record":
            index.record(digest, at, kind, float(at), children=_NAMES.get(digest, ()))
        elif verb == "touch":
            index.touch({digest: float(at)})
        elif verb == "restore" and kind is ContentKind.BLOB:
            index.restore([IndexEntry(digest, at, kind, float(at))])
        elif verb == "evict" and (row := index.entry(digest)) and index.mark_for_deletion(row):
            index.forget(digest)

    rows = index.oldest(None, 100)
    order = [row.digest for row in rows]
    for parent in set(order) & set(_NAMES):
        for child in set(order) & set(_NAMES[parent]):
            assert order.index(parent) < order.index(child)
    assert index.reservations.used_bytes() == sum(row.size + OVERHEAD for row in rows)
    assert index.count() == len(rows)


def _empty(index: Index) -> None:
    for row in index.oldest(None, 100):
        assert index.mark_for_deletion(row)
        index.forget(row.digest)
