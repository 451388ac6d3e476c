"""The AccessIndex protocol, held against every driver: rows, room, notes."""

from __future__ import annotations

import threading

import pytest

from datastore.budget import OVERHEAD
from datastore.index import REBUILT, AccessIndex, Entry, Kind, Reservation
from datastore.refs import Digest

A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
LONG = Digest.of(b"long", "sha512")


def _used(index: AccessIndex, digest: Digest) -> float:
    entry = index.entry(digest)
    assert entry is not None
    return entry.used


class TestRecord:
    """A row is made, and what that brings with it."""

    @pytest.mark.parametrize("digest", [A, LONG], ids=["sha256", "sha512"])
    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_row_says_what_was_recorded(
        self, index: AccessIndex, digest: Digest, kind: Kind
    ) -> None:
        """Every algorithm and kind comes back as it went in."""
        index.record(digest, 10, kind, 5.25)

        assert index.entry(digest) == Entry(digest, 10, kind, 5.25)
        assert index.count() == 1

    def test_an_absent_row_is_none(self, index: AccessIndex) -> None:
        """Absence is an answer and no error."""
        assert index.entry(A) is None
        assert index.named(A) == []
        assert (index.count(), index.held()) == (0, 0)

    def test_recorded_again_it_is_one_row_with_the_later_time(self, index: AccessIndex) -> None:
        """The verb may be repeated; what a manifest's row was guessed to be is corrected."""
        index.record(A, 10, Kind.BLOB, 5.0)
        index.record(A, 12, Kind.MANIFEST, 3.0)

        assert index.entry(A) == Entry(A, 12, Kind.MANIFEST, 5.0)
        assert (index.count(), index.held()) == (1, 12 + OVERHEAD)

    def test_what_a_manifest_names_is_kept_in_order(self, index: AccessIndex) -> None:
        """Also what is not here; the last record counts."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[D, B])
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[C, B, D])

        assert index.named(A) == [C, B, D]

    def test_what_names_a_part_is_found_the_latest_first(self, index: AccessIndex) -> None:
        """An image that shares a layer with others is most likely the one in use."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[C, C])
        index.record(B, 1, Kind.MANIFEST, 2.0, names=[C])

        assert index.naming(C) == [B, A]
        assert index.naming(A) == []

    def test_a_name_that_stands_twice_is_kept_twice(self, index: AccessIndex) -> None:
        """An image may have the same layer twice."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[B, B])

        assert index.named(A) == [B, B]

    def test_what_it_names_is_never_older(self, index: AccessIndex) -> None:
        """A manifest that comes after its parts takes them along."""
        index.record(B, 1, Kind.BLOB, 1.0)
        index.record(C, 1, Kind.BLOB, 9.0)
        index.record(A, 1, Kind.MANIFEST, 5.0, names=[B, C])

        assert (_used(index, B), _used(index, C)) == (5.0, 9.0)

    def test_a_part_that_comes_later_is_never_older_than_what_names_it(
        self, index: AccessIndex
    ) -> None:
        """A late download's time may lie before the pull of its manifest."""
        index.record(A, 1, Kind.MANIFEST, 5.0, names=[B])
        index.record(B, 1, Kind.BLOB, 2.0)

        assert _used(index, B) == 5.0

    def test_a_manifest_that_comes_between_carries_on_what_its_index_says(
        self, index: AccessIndex
    ) -> None:
        """Index and layer were here; the manifest that joins them makes the order whole."""
        index.record(C, 1, Kind.BLOB, 1.0)
        index.record(A, 1, Kind.INDEX, 9.0, names=[B])
        index.record(B, 1, Kind.MANIFEST, 3.0, names=[C])

        assert (_used(index, B), _used(index, C)) == (9.0, 9.0)


class TestRestore:
    """Rows for what lies on the disk already."""

    def test_a_missing_row_is_made(self, index: AccessIndex) -> None:
        """With the time that the disk knows."""
        index.restore([Entry(A, 10, Kind.BLOB, 5.0), Entry(LONG, 20, Kind.BLOB, 6.0)])

        assert index.oldest(None, 9) == [
            Entry(A, 10, Kind.BLOB, 5.0),
            Entry(LONG, 20, Kind.BLOB, 6.0),
        ]
        assert index.held() == 30 + 2 * OVERHEAD

    def test_a_row_that_is_here_stays_as_it_is(self, index: AccessIndex) -> None:
        """A worker knows better than the disk; a marked row is not revived."""
        index.record(A, 10, Kind.MANIFEST, 5.0, names=[B])
        index.leave(Entry(A, 10, Kind.MANIFEST, 5.0))

        index.restore([Entry(A, 11, Kind.BLOB, 7.0)])

        assert index.leaving() == [Entry(A, 10, Kind.MANIFEST, 5.0)]
        assert (index.named(A), index.held()) == ([B], 10 + OVERHEAD)

    def test_a_restored_part_is_never_older_than_what_names_it(self, index: AccessIndex) -> None:
        """File times may lag behind stamps by an hour."""
        index.record(A, 1, Kind.MANIFEST, 5.0, names=[B])
        index.restore([Entry(B, 1, Kind.BLOB, 2.0)])

        assert _used(index, B) == 5.0


class TestTouch:
    """Last uses move on."""

    def test_the_later_time_wins(self, index: AccessIndex) -> None:
        """Stamps may come in any order, and twice."""
        index.record(A, 1, Kind.BLOB, 5.0)

        index.touch({A: 9.5})
        index.touch({A: 7.0})

        assert _used(index, A) == 9.5

    def test_a_stamp_never_makes_a_row(self, index: AccessIndex) -> None:
        """What was evicted before its last line was read stays evicted."""
        index.touch({A: 9.0})

        assert (index.entry(A), index.count()) == (None, 0)

    def test_what_a_stamped_row_names_is_stamped_with_it(self, index: AccessIndex) -> None:
        """A client that has the parts of an image does not ask for them."""
        index.record(A, 1, Kind.INDEX, 1.0, names=[B, D])
        index.record(B, 1, Kind.MANIFEST, 1.0, names=[C])
        index.record(C, 1, Kind.BLOB, 1.0)

        index.touch({A: 9.0})

        assert [_used(index, each) for each in (A, B, C)] == [9.0, 9.0, 9.0]
        assert index.entry(D) is None

    def test_what_names_a_stamped_row_is_not_stamped(self, index: AccessIndex) -> None:
        """A layer that two images share says nothing of either."""
        index.record(B, 1, Kind.BLOB, 1.0)
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[B])

        index.touch({B: 9.0})

        assert _used(index, A) == 1.0

    def test_each_part_gets_the_latest_of_all_stamps(self, index: AccessIndex) -> None:
        """Two images of one batch share a layer, which was asked for as well."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[C])
        index.record(B, 1, Kind.MANIFEST, 1.0, names=[C])
        index.record(C, 1, Kind.BLOB, 1.0)

        index.touch({A: 8.0, B: 9.0, C: 7.0})

        assert _used(index, C) == 9.0

    def test_an_absent_manifest_stamps_nothing(self, index: AccessIndex) -> None:
        """What it named went out of the index with it."""
        index.record(B, 1, Kind.BLOB, 1.0)
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[B])
        index.leave(Entry(A, 1, Kind.MANIFEST, 1.0))
        index.forget(A)

        index.touch({A: 9.0})

        assert (_used(index, B), index.named(A)) == (1.0, [])

    def test_a_circle_of_names_ends(self, index: AccessIndex) -> None:
        """No honest registry has one; a dishonest one must not hang the logger."""
        index.record(A, 1, Kind.INDEX, 1.0, names=[B])
        index.record(B, 1, Kind.INDEX, 1.0, names=[A])

        index.touch({A: 9.0})

        assert _used(index, B) == 9.0


class TestNotes:
    """Small texts that are kept with stamps."""

    def test_a_note_is_kept_until_the_next(self, index: AccessIndex) -> None:
        """The last one counts; others are left alone."""
        index.touch({}, {"news": "1", "position": "77"})
        index.touch({}, {"news": "2"})

        assert (index.note("news"), index.note("position")) == ("2", "77")

    def test_an_absent_note_is_none(self, index: AccessIndex) -> None:
        """Absence is an answer and no error."""
        assert index.note("absent") is None


class TestRoom:
    """Reservations and the cap."""

    def test_room_is_promised_up_to_the_cap_and_not_beyond(self, index: AccessIndex) -> None:
        """The cap is the last byte that may be held, overhead included."""
        cap = 100 + OVERHEAD

        assert index.reserve(A, 101, cap, 1.0) is False
        assert index.held() == 0
        assert index.reserve(A, 100, cap, 1.0) is True
        assert index.held() == cap

    def test_rows_and_reservations_take_room_alike(self, index: AccessIndex) -> None:
        """Also rows that are marked: their data may still lie there."""
        index.record(A, 100, Kind.BLOB, 1.0)
        index.leave(Entry(A, 100, Kind.BLOB, 1.0))
        index.reserve(B, 50, None, 1.0)

        assert index.held() == 150 + 2 * OVERHEAD
        assert index.reserve(C, 1, 150 + 3 * OVERHEAD, 1.0) is False
        assert index.reserve(C, 1, 151 + 3 * OVERHEAD, 1.0) is True

    def test_without_a_cap_there_is_always_room(self, index: AccessIndex) -> None:
        """None is no limit."""
        assert index.reserve(A, 10**15, None, 1.0) is True

    def test_a_second_reservation_replaces_the_first(self, index: AccessIndex) -> None:
        """A download that grows in steps asks for its new whole length."""
        index.reserve(A, 100, None, 1.0)

        assert index.reserve(A, 300, 300 + OVERHEAD, 2.0) is True
        assert index.reservations() == [Reservation(A, 300, 2.0)]
        assert index.held() == 300 + OVERHEAD

    def test_a_refused_one_leaves_the_first_as_it_was(self, index: AccessIndex) -> None:
        """What was promised stays promised."""
        index.reserve(A, 100, None, 1.0)

        assert index.reserve(A, 301, 300 + OVERHEAD, 2.0) is False
        assert index.reservations() == [Reservation(A, 100, 1.0)]

    def test_a_smaller_one_is_never_refused(self, index: AccessIndex) -> None:
        """It frees room, even above a cap that was lowered meanwhile."""
        index.reserve(A, 100, None, 1.0)
        index.record(B, 1, Kind.BLOB, 1.0)

        assert index.reserve(A, 50, 51 + 2 * OVERHEAD, 1.0) is True

    def test_a_released_one_is_room_again(self, index: AccessIndex) -> None:
        """The verb may be repeated."""
        index.reserve(A, 100, None, 1.0)

        index.release(A)
        index.release(A)

        assert (index.held(), index.reservations()) == (0, [])

    def test_a_record_takes_the_place_of_its_reservation(self, index: AccessIndex) -> None:
        """Nothing is counted twice, nothing in between not at all."""
        index.reserve(A, 100, None, 1.0)
        index.reserve(B, 7, None, 1.0)

        index.record(A, 100, Kind.BLOB, 1.0)

        assert index.held() == 107 + 2 * OVERHEAD
        assert index.reservations() == [Reservation(B, 7, 1.0)]

    def test_reservations_come_the_oldest_first(self, index: AccessIndex) -> None:
        """So the cleaner meets the dead before the living."""
        for digest, at in ((A, 3.0), (B, 1.0), (C, 2.0)):
            index.reserve(digest, 1, None, at)

        assert [each.digest for each in index.reservations()] == [B, C, A]

    def test_a_lost_index_promises_nothing_under_a_cap(self, new_index: AccessIndex) -> None:
        """It does not know what lies on the disk, so the cap could be passed unseen."""
        assert new_index.reserve(A, 1, 10**9, 1.0) is False
        assert new_index.reserve(A, 1, None, 1.0) is True

        new_index.touch({}, {REBUILT: "1"})

        assert new_index.reserve(B, 1, 10**9, 1.0) is True

    def test_many_at_once_never_pass_the_cap(self, index: AccessIndex) -> None:
        """The look and the promise are one transaction."""
        cap = 10 * (100 + OVERHEAD)
        digests = [Digest.of(bytes([number])) for number in range(40)]
        granted: list[bool] = []

        def ask(share: list[Digest]) -> None:
            granted.extend(index.reserve(digest, 100, cap, 1.0) for digest in share)

        threads = [threading.Thread(target=ask, args=(digests[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (granted.count(True), index.held()) == (10, cap)
