"""Tests of the AccessIndex protocol with every driver: rows, reservations, notes."""

from __future__ import annotations

import threading

import pytest

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import REBUILT, AccessIndex, ContentKind, IndexEntry, Reservation
from entrepot.datastore.refs import Digest

A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
LONG = Digest.of(b"long", "sha512")


def _used(index: AccessIndex, digest: Digest) -> float:
    entry = index.entry(digest)
    assert entry is not None
    return entry.used


class TestRecord:
    """`record` creates rows and updates those of parts."""

    @pytest.mark.parametrize("digest", [A, LONG], ids=["sha256", "sha512"])
    @pytest.mark.parametrize("kind", list(ContentKind))
    def test_a_row_has_the_recorded_values(
        self, index: AccessIndex, digest: Digest, kind: ContentKind
    ) -> None:
        """This holds for every digest algorithm and kind."""
        index.record(digest, 10, kind, 5.25)

        assert index.entry(digest) == IndexEntry(digest, 10, kind, 5.25)
        assert index.count() == 1

    def test_an_absent_row_is_none(self, index: AccessIndex) -> None:
        """Absence is a result and not an error."""
        assert index.entry(A) is None
        assert index.children(A) == []
        assert (index.count(), index.used_bytes()) == (0, 0)

    def test_a_repeated_record_updates_the_row_and_keeps_the_later_time(
        self, index: AccessIndex
    ) -> None:
        """The method is idempotent. It corrects the kind of a row that was restored as a blob."""
        index.record(A, 10, ContentKind.BLOB, 5.0)
        index.record(A, 12, ContentKind.MANIFEST, 3.0)

        assert index.entry(A) == IndexEntry(A, 12, ContentKind.MANIFEST, 5.0)
        assert (index.count(), index.used_bytes()) == (1, 12 + OVERHEAD)

    def test_the_parts_of_a_manifest_keep_their_order(self, index: AccessIndex) -> None:
        """Parts without a row are included; the last record replaces the list."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[D, B])
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C, B, D])

        assert index.children(A) == [C, B, D]

    def test_the_manifests_of_a_part_are_sorted_by_last_use(self, index: AccessIndex) -> None:
        """If images share a layer, the image with the latest use is most likely the one in use."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C, C])
        index.record(B, 1, ContentKind.MANIFEST, 2.0, children=[C])

        assert index.parents(C) == [B, A]
        assert index.parents(A) == []

    def test_a_repeated_part_is_kept_twice(self, index: AccessIndex) -> None:
        """An image may contain the same layer twice."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B, B])

        assert index.children(A) == [B, B]

    def test_a_recorded_manifest_updates_older_parts(self, index: AccessIndex) -> None:
        """The parts of a manifest never have an older access time than the manifest."""
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(C, 1, ContentKind.BLOB, 9.0)
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B, C])

        assert (_used(index, B), _used(index, C)) == (5.0, 9.0)

    def test_a_part_recorded_later_gets_the_time_of_its_manifest(self, index: AccessIndex) -> None:
        """The time of a late download may be before the pull of its manifest."""
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B])
        index.record(B, 1, ContentKind.BLOB, 2.0)

        assert _used(index, B) == 5.0

    def test_a_manifest_recorded_last_passes_the_time_of_its_index_to_its_layers(
        self, index: AccessIndex
    ) -> None:
        """The index and the layer have rows; the manifest that connects them is recorded last."""
        index.record(C, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.INDEX, 9.0, children=[B])
        index.record(B, 1, ContentKind.MANIFEST, 3.0, children=[C])

        assert (_used(index, B), _used(index, C)) == (9.0, 9.0)


class TestRestore:
    """`restore` creates rows for stored files."""

    def test_a_missing_row_is_created(self, index: AccessIndex) -> None:
        """Its time is that of the file."""
        index.restore(
            [IndexEntry(A, 10, ContentKind.BLOB, 5.0), IndexEntry(LONG, 20, ContentKind.BLOB, 6.0)]
        )

        assert index.oldest(None, 9) == [
            IndexEntry(A, 10, ContentKind.BLOB, 5.0),
            IndexEntry(LONG, 20, ContentKind.BLOB, 6.0),
        ]
        assert index.used_bytes() == 30 + 2 * OVERHEAD

    def test_an_existing_row_is_unchanged(self, index: AccessIndex) -> None:
        """Recorded values are more exact than those of files.

        A row marked for removal stays marked.
        """
        index.record(A, 10, ContentKind.MANIFEST, 5.0, children=[B])
        index.mark_for_deletion(IndexEntry(A, 10, ContentKind.MANIFEST, 5.0))

        index.restore([IndexEntry(A, 11, ContentKind.BLOB, 7.0)])

        assert index.marked_for_deletion() == [IndexEntry(A, 10, ContentKind.MANIFEST, 5.0)]
        assert (index.children(A), index.used_bytes()) == ([B], 10 + OVERHEAD)

    def test_a_restored_part_gets_the_time_of_its_manifest(self, index: AccessIndex) -> None:
        """File times may be one hour behind access times."""
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B])
        index.restore([IndexEntry(B, 1, ContentKind.BLOB, 2.0)])

        assert _used(index, B) == 5.0


class TestTouch:
    """`touch` updates access times."""

    def test_the_later_time_is_kept(self, index: AccessIndex) -> None:
        """Times may arrive in any order and repeatedly."""
        index.record(A, 1, ContentKind.BLOB, 5.0)

        index.touch({A: 9.5})
        index.touch({A: 7.0})

        assert _used(index, A) == 9.5

    def test_a_touch_creates_no_row(self, index: AccessIndex) -> None:
        """Content that was evicted before its last log line was read stays evicted."""
        index.touch({A: 9.0})

        assert (index.entry(A), index.count()) == (None, 0)

    def test_a_touch_of_a_manifest_touches_its_parts(self, index: AccessIndex) -> None:
        """A client that already has the parts of an image does not request them."""
        index.record(A, 1, ContentKind.INDEX, 1.0, children=[B, D])
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(C, 1, ContentKind.BLOB, 1.0)

        index.touch({A: 9.0})

        assert [_used(index, each) for each in (A, B, C)] == [9.0, 9.0, 9.0]
        assert index.entry(D) is None

    def test_a_touch_of_a_part_does_not_touch_its_manifests(self, index: AccessIndex) -> None:
        """Two images may share a layer, so its use says nothing about each of them."""
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B])

        index.touch({B: 9.0})

        assert _used(index, A) == 1.0

    def test_a_part_gets_the_latest_of_all_times(self, index: AccessIndex) -> None:
        """Two images of one batch share a layer that has an access time of its own."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(C, 1, ContentKind.BLOB, 1.0)

        index.touch({A: 8.0, B: 9.0, C: 7.0})

        assert _used(index, C) == 9.0

    def test_a_touch_of_an_absent_manifest_has_no_effect(self, index: AccessIndex) -> None:
        """The list of its parts was removed from the index with it."""
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B])
        index.mark_for_deletion(IndexEntry(A, 1, ContentKind.MANIFEST, 1.0))
        index.forget(A)

        index.touch({A: 9.0})

        assert (_used(index, B), index.children(A)) == (1.0, [])

    def test_a_cycle_of_references_ends(self, index: AccessIndex) -> None:
        """Digests make cycles impossible, but a faulty registry must not block the logger."""
        index.record(A, 1, ContentKind.INDEX, 1.0, children=[B])
        index.record(B, 1, ContentKind.INDEX, 1.0, children=[A])

        index.touch({A: 9.0})

        assert _used(index, B) == 9.0


class TestNotes:
    """`touch` stores short texts in the transaction of access times."""

    def test_a_note_is_kept_until_it_is_replaced(self, index: AccessIndex) -> None:
        """Other notes are unchanged."""
        index.touch({}, {"news": "1", "position": "77"})
        index.touch({}, {"news": "2"})

        assert (index.note("news"), index.note("position")) == ("2", "77")

    def test_an_absent_note_is_none(self, index: AccessIndex) -> None:
        """Absence is a result and not an error."""
        assert index.note("absent") is None


class TestReservations:
    """Reservations and the cap."""

    def test_bytes_can_be_reserved_up_to_the_cap(self, index: AccessIndex) -> None:
        """The cap is inclusive and counts the overhead of each row."""
        cap = 100 + OVERHEAD

        assert index.reserve(A, 101, cap, 1.0) is False
        assert index.used_bytes() == 0
        assert index.reserve(A, 100, cap, 1.0) is True
        assert index.used_bytes() == cap

    def test_rows_and_reservations_count_against_the_cap(self, index: AccessIndex) -> None:
        """Rows that are marked for removal count too, because their files may still exist."""
        index.record(A, 100, ContentKind.BLOB, 1.0)
        index.mark_for_deletion(IndexEntry(A, 100, ContentKind.BLOB, 1.0))
        index.reserve(B, 50, None, 1.0)

        assert index.used_bytes() == 150 + 2 * OVERHEAD
        assert index.reserve(C, 1, 150 + 3 * OVERHEAD, 1.0) is False
        assert index.reserve(C, 1, 151 + 3 * OVERHEAD, 1.0) is True

    def test_without_a_cap_every_reservation_is_granted(self, index: AccessIndex) -> None:
        """None means no limit."""
        assert index.reserve(A, 10**15, None, 1.0) is True

    def test_a_second_reservation_replaces_the_first(self, index: AccessIndex) -> None:
        """A download that grows in steps reserves its new total length."""
        index.reserve(A, 100, None, 1.0)

        assert index.reserve(A, 300, 300 + OVERHEAD, 2.0) is True
        assert index.reservations() == [Reservation(A, 300, 2.0)]
        assert index.used_bytes() == 300 + OVERHEAD

    def test_a_refused_reservation_leaves_the_first_unchanged(self, index: AccessIndex) -> None:
        """Reserved bytes stay reserved."""
        index.reserve(A, 100, None, 1.0)

        assert index.reserve(A, 301, 300 + OVERHEAD, 2.0) is False
        assert index.reservations() == [Reservation(A, 100, 1.0)]

    def test_a_smaller_reservation_is_never_refused(self, index: AccessIndex) -> None:
        """It frees bytes, even above a cap that was reduced meanwhile."""
        index.reserve(A, 100, None, 1.0)
        index.record(B, 1, ContentKind.BLOB, 1.0)

        assert index.reserve(A, 50, 51 + 2 * OVERHEAD, 1.0) is True

    def test_a_released_reservation_frees_its_bytes(self, index: AccessIndex) -> None:
        """The method is idempotent."""
        index.reserve(A, 100, None, 1.0)

        index.release(A)
        index.release(A)

        assert (index.used_bytes(), index.reservations()) == (0, [])

    def test_a_record_replaces_its_reservation(self, index: AccessIndex) -> None:
        """The bytes are never counted twice, and at no moment uncounted."""
        index.reserve(A, 100, None, 1.0)
        index.reserve(B, 7, None, 1.0)

        index.record(A, 100, ContentKind.BLOB, 1.0)

        assert index.used_bytes() == 107 + 2 * OVERHEAD
        assert index.reservations() == [Reservation(B, 7, 1.0)]

    def test_reservations_are_listed_the_oldest_first(self, index: AccessIndex) -> None:
        """The cleaner thereby checks those of dead processes first."""
        for digest, at in ((A, 3.0), (B, 1.0), (C, 2.0)):
            index.reserve(digest, 1, None, at)

        assert [each.digest for each in index.reservations()] == [B, C, A]

    def test_a_lost_index_refuses_reservations_under_a_cap(self, new_index: AccessIndex) -> None:
        """It does not know the stored files yet, so the cap could be exceeded unnoticed."""
        assert new_index.reserve(A, 1, 10**9, 1.0) is False
        assert new_index.reserve(A, 1, None, 1.0) is True

        new_index.touch({}, {REBUILT: "1"})

        assert new_index.reserve(B, 1, 10**9, 1.0) is True

    def test_concurrent_reservations_never_exceed_the_cap(self, index: AccessIndex) -> None:
        """The check and the reservation are one transaction."""
        cap = 10 * (100 + OVERHEAD)
        digests = [Digest.of(bytes([number])) for number in range(40)]
        granted: list[bool] = []

        def reserve_all(share: list[Digest]) -> None:
            granted.extend(index.reserve(digest, 100, cap, 1.0) for digest in share)

        threads = [threading.Thread(target=reserve_all, args=(digests[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (granted.count(True), index.used_bytes()) == (10, cap)
