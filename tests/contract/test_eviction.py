"""The AccessIndex protocol, held against every driver: the order of eviction, and leaving."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.budget import OVERHEAD
from datastore.index import AccessIndex, Cursor, Entry, Kind
from datastore.refs import Digest
from tests.clock import Clock
from tests.sizes import scaled

A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
ROW = Entry(A, 10, Kind.BLOB, 5.0)
# a sum of two doubles that is none of the decimals it looks like
ODD_TIME = 1_700_000_000.1 + 0.2


def _record(index: AccessIndex, entry: Entry) -> None:
    index.record(entry.digest, entry.size, entry.kind, entry.used)


def _pages(index: AccessIndex, limit: int) -> list[Entry]:
    """Go along all pages."""
    entries: list[Entry] = []
    while page := index.oldest(Cursor.after(entries[-1]) if entries else None, limit):
        assert len(page) <= limit
        entries += page
    return entries


class TestOldest:
    """Pages in the order of eviction."""

    def test_the_least_recently_used_comes_first(self, index: AccessIndex) -> None:
        """Whatever was recorded first."""
        rows = [Entry(digest, 1, Kind.BLOB, used) for digest, used in ((A, 3.0), (B, 1.0))]
        for row in rows:
            _record(index, row)

        assert index.oldest(None, 10) == rows[::-1]

    def test_at_equal_times_an_index_goes_before_its_manifests_and_they_before_their_parts(
        self, index: AccessIndex
    ) -> None:
        """What is left never names what is gone."""
        index.record(C, 1, Kind.BLOB, 1.0)
        index.record(B, 1, Kind.MANIFEST, 1.0, names=[C])
        index.record(A, 1, Kind.INDEX, 1.0, names=[B])

        index.touch({A: 7.0})

        assert [entry.digest for entry in index.oldest(None, 10)] == [A, B, C]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    def test_pages_join_without_gap_or_overlap(self, index: AccessIndex, limit: int) -> None:
        """Also where many rows share a time and a kind."""
        places = itertools.product((1.0, 2.0), Kind, range(4))
        rows = [Entry(Digest.of(repr(place).encode()), 1, place[1], place[0]) for place in places]
        for row in rows:
            _record(index, row)

        assert _pages(index, limit) == sorted(rows, key=Cursor.after)

    def test_both_algorithms_sort_as_their_text(self, index: AccessIndex) -> None:
        """A cursor compares texts; the driver's own order must be that."""
        rows = [
            Entry(Digest.of(bytes([n]), algorithm), 1, Kind.BLOB, 1.0)
            for n in range(20)
            for algorithm in ("sha512", "sha256")
        ]
        for row in rows:
            _record(index, row)

        assert _pages(index, 3) == sorted(rows, key=lambda row: str(row.digest))

    def test_a_row_that_moves_on_is_met_again_further_on(self, index: AccessIndex) -> None:
        """A sweep that goes along sees what was used meanwhile at its new place."""
        for digest, used in ((A, 1.0), (B, 2.0)):
            _record(index, Entry(digest, 1, Kind.BLOB, used))
        (first,) = index.oldest(None, 1)

        index.touch({A: 9.0})

        rest = index.oldest(Cursor.after(first), 10)
        assert [(entry.digest, entry.used) for entry in rest] == [(B, 2.0), (A, 9.0)]


class TestUnnamed:
    """Pages of what no manifest names: roots, and what nobody wants."""

    def test_what_a_row_names_is_left_out(self, index: AccessIndex) -> None:
        """As long as the row is there; the same page by page."""
        index.record(C, 1, Kind.BLOB, 1.0)
        index.record(D, 1, Kind.BLOB, 2.0)
        index.record(B, 1, Kind.MANIFEST, 3.0, names=[C, C])

        assert [entry.digest for entry in index.unnamed(None, 10)] == [D, B]
        first = index.unnamed(None, 1)
        assert [entry.digest for entry in index.unnamed(Cursor.after(first[0]), 1)] == [B]

    def test_it_comes_back_once_what_named_it_is_gone(self, index: AccessIndex) -> None:
        """And what is marked is left out, as in every page."""
        index.record(C, 1, Kind.BLOB, 1.0)
        index.record(B, 1, Kind.MANIFEST, 1.0, names=[C])
        index.leave(Entry(B, 1, Kind.MANIFEST, 1.0))
        assert index.unnamed(None, 10) == []

        index.forget(B)

        assert [entry.digest for entry in index.unnamed(None, 10)] == [C]


class TestNaming:
    """Who names a digest."""

    def test_each_manifest_that_names_it_is_told_once(self, index: AccessIndex) -> None:
        """Though it names it twice, and though the digest has no row."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[C, C])
        index.record(B, 1, Kind.MANIFEST, 1.0, names=[C, D])

        assert sorted(index.naming(C)) == sorted([A, B])
        assert index.naming(A) == []

    def test_one_that_is_gone_names_nothing(self, index: AccessIndex) -> None:
        """One that is marked still does: its cleaner may have died."""
        index.record(A, 1, Kind.MANIFEST, 1.0, names=[C])
        index.leave(Entry(A, 1, Kind.MANIFEST, 1.0))
        assert index.naming(C) == [A]

        index.forget(A)

        assert index.naming(C) == []


class TestLeave:
    """A row is marked only as it was read."""

    def test_a_marked_row_is_counted_and_listed_but_not_met_again(self, index: AccessIndex) -> None:
        """Its data may still lie there, so a cleaner that dies can finish."""
        _record(index, ROW)

        assert index.leave(ROW) is True
        assert (index.oldest(None, 10), index.leaving()) == ([], [ROW])
        assert (index.entry(A), index.count(), index.held()) == (ROW, 1, 10 + OVERHEAD)

    def test_one_that_was_used_meanwhile_stays(self, index: AccessIndex) -> None:
        """A client may have asked between the plan and the sweep."""
        _record(index, ROW)
        index.touch({A: 6.0})

        assert index.leave(ROW) is False
        assert index.leaving() == []

    def test_one_that_was_recorded_as_something_else_stays(self, index: AccessIndex) -> None:
        """It is not the row that the plan saw."""
        _record(index, ROW)
        index.record(A, 10, Kind.MANIFEST, 5.0)

        assert index.leave(ROW) is False

    def test_one_that_is_absent_or_marked_cannot_leave(self, index: AccessIndex) -> None:
        """Of two sweeps one gets it."""
        assert index.leave(ROW) is False

        _record(index, ROW)

        assert (index.leave(ROW), index.leave(ROW)) == (True, False)

    def test_times_are_compared_to_the_last_bit(self, index: AccessIndex) -> None:
        """A row is equal to itself, whatever double its time is."""
        row = Entry(A, 10, Kind.BLOB, ODD_TIME)
        _record(index, row)

        assert index.oldest(None, 1) == [row]
        assert index.leave(row) is True


class TestForget:
    """The row goes after the data."""

    def test_a_marked_row_goes(self, index: AccessIndex) -> None:
        """And its bytes with it; the verb may be repeated."""
        _record(index, ROW)
        index.leave(ROW)

        index.forget(A)
        index.forget(A)

        assert (index.entry(A), index.leaving(), index.held()) == (None, [], 0)

    def test_an_unmarked_row_stays(self, index: AccessIndex) -> None:
        """Nobody forgets what nobody marked."""
        _record(index, ROW)

        index.forget(A)

        assert index.entry(A) == ROW

    def test_a_row_that_was_recorded_again_stays(self, index: AccessIndex) -> None:
        """A download that lands during the sweep revives it, at an equal time too."""
        _record(index, ROW)
        index.leave(ROW)

        _record(index, ROW)
        index.forget(A)

        assert (index.oldest(None, 1), index.leaving()) == ([ROW], [])

    def test_a_stamp_revives_nothing(self, index: AccessIndex) -> None:
        """The data may be gone already: only a record says that it is here."""
        _record(index, ROW)
        index.leave(ROW)

        index.touch({A: 9.0})
        index.forget(A)

        assert index.entry(A) is None


class TestPin:
    """A push holds what it refers to."""

    def test_a_pinned_row_cannot_leave_until_then(self, index: AccessIndex, clock: Clock) -> None:
        """The end of the pin is the first moment without it."""
        _record(index, ROW)
        index.pin([A, B], until=clock.now + 10)

        assert index.leave(ROW) is False
        clock.now += 10
        assert index.leave(ROW) is True

    def test_a_pin_holds_what_comes_after_it(self, index: AccessIndex, clock: Clock) -> None:
        """It may stand before the row does."""
        index.pin([A], until=clock.now + 10)
        _record(index, ROW)

        assert index.leave(ROW) is False

    def test_the_later_end_of_two_pins_counts(self, index: AccessIndex, clock: Clock) -> None:
        """Two pushes share a layer, and the second may be the shorter one."""
        _record(index, ROW)
        index.pin([A], until=clock.now + 10)
        index.pin([A], until=clock.now + 5)
        clock.now += 7

        assert index.leave(ROW) is False

    def test_pins_are_told_until_they_end(self, index: AccessIndex, clock: Clock) -> None:
        """All of them, or of those that were asked about."""
        index.pin([A], until=clock.now + 10)
        index.pin([B], until=clock.now + 5)
        assert index.pinned([A, B, C]) == index.pins() == {A, B}
        clock.now += 5

        assert index.pinned([A, B, C]) == index.pins() == {A}

    def test_a_pin_is_taken_back_alone(self, index: AccessIndex, clock: Clock) -> None:
        """Of two pushes that share a layer, the one that ends lets go of its own."""
        _record(index, ROW)
        for until in (clock.now + 5, clock.now + 10):
            index.pin([A], until)

        index.unpin([A, B], clock.now + 10)
        assert index.leave(ROW) is False
        index.unpin([A], clock.now + 5)
        assert index.leave(ROW) is True

    def test_pins_count_no_bytes(self, index: AccessIndex, clock: Clock) -> None:
        """They are neither rows nor reservations."""
        index.pin([A], until=clock.now + 10)

        assert (index.held(), index.count(), index.entry(A)) == (0, 0, None)


_LAYERS = [Digest.of(f"layer {n}".encode()) for n in range(3)]
_MANIFESTS = [Digest.of(f"manifest {n}".encode()) for n in range(2)]
_INDEX = Digest.of(b"index")
_NAMES = {_MANIFESTS[0]: _LAYERS[:2], _MANIFESTS[1]: _LAYERS[1:], _INDEX: _MANIFESTS}
_KINDS = {_INDEX: Kind.INDEX, **dict.fromkeys(_MANIFESTS, Kind.MANIFEST)}


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
def test_a_manifest_always_goes_before_what_it_names(
    index: AccessIndex, steps: list[tuple[str, Digest, int]]
) -> None:
    """In whatever order rows come, are used and go; the totals stay right on the way."""
    _empty(index)
    for verb, digest, at in steps:
        kind = _KINDS.get(digest, Kind.BLOB)
        if verb == "record":
            index.record(digest, at, kind, float(at), names=_NAMES.get(digest, ()))
        elif verb == "touch":
            index.touch({digest: float(at)})
        elif verb == "restore" and kind is Kind.BLOB:
            index.restore([Entry(digest, at, kind, float(at))])
        elif verb == "evict" and (row := index.entry(digest)) and index.leave(row):
            index.forget(digest)

    rows = index.oldest(None, 100)
    order = [row.digest for row in rows]
    for parent in set(order) & set(_NAMES):
        for child in set(order) & set(_NAMES[parent]):
            assert order.index(parent) < order.index(child)
    assert index.held() == sum(row.size + OVERHEAD for row in rows)
    assert index.count() == len(rows)


def _empty(index: AccessIndex) -> None:
    for row in index.oldest(None, 100):
        assert index.leave(row)
        index.forget(row.digest)
