"""The AccessIndex protocol, held against every driver: what was fetched ahead for nobody."""

from __future__ import annotations

import pytest

from datastore.index import AccessIndex, Kind
from datastore.refs import Digest

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))


def _unasked(index: AccessIndex, before: float = 100.0, limit: int = 10) -> list[Digest]:
    return [each.digest for each in index.unasked(before, limit)]


def test_what_was_fetched_ahead_is_unasked_the_oldest_first(index: AccessIndex) -> None:
    """A page of it, of what was begun before a moment; what was asked for is none of it."""
    index.record(A, 1, Kind.BLOB, 9.0, ahead=7.0)
    index.record(B, 1, Kind.BLOB, 8.0, ahead=5.0)
    index.record(C, 1, Kind.BLOB, 6.0)

    assert _unasked(index) == [B, A]
    assert _unasked(index, limit=1) == [B]
    assert _unasked(index, before=7.0) == [B]
    assert index.unasked(100.0, 1) == [index.entry(B)]


@pytest.mark.parametrize(("at", "left"), [(4.0, [A]), (5.0, [A]), (5.5, []), (20.0, [])])
def test_a_use_after_it_was_begun_makes_it_like_any_other(
    index: AccessIndex, at: float, left: list[Digest]
) -> None:
    """Also one that ended before it was stored; the stamp of an older use may come late."""
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)
    index.touch({A: at})

    assert _unasked(index) == left


@pytest.mark.parametrize(("at", "left"), [(4.0, [A]), (20.0, [])])
def test_so_does_a_later_use_of_what_names_it(
    index: AccessIndex, at: float, left: list[Digest]
) -> None:
    """Whoever has the layers asks for the manifest only; the pull that began it is older."""
    index.record(B, 1, Kind.MANIFEST, 4.0, names=[A])
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)
    index.touch({B: at})

    assert _unasked(index) == left


def test_it_is_as_old_as_any_other(index: AccessIndex) -> None:
    """Age counts from when it came."""
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)
    entry = index.entry(A)

    assert entry is not None
    assert entry.used == 9.0


def test_what_was_here_is_asked_for_already(index: AccessIndex) -> None:
    """It came again because its file was lost."""
    index.record(A, 1, Kind.BLOB, 3.0)
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)

    assert _unasked(index) == []


def test_what_leaves_is_met_no_more_and_forgotten(index: AccessIndex) -> None:
    """It may come again, asked for then."""
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)
    (entry,) = index.unasked(100.0, 10)

    assert index.leave(entry)
    assert _unasked(index) == []
    index.forget(A)
    index.record(A, 1, Kind.BLOB, 12.0)
    assert _unasked(index) == []


def test_one_that_was_asked_for_meanwhile_stays(index: AccessIndex) -> None:
    """The cleaner had read it before."""
    index.record(A, 1, Kind.BLOB, 9.0, ahead=5.0)
    (entry,) = index.unasked(100.0, 10)
    index.touch({A: 10.0})

    assert not index.leave(entry)
