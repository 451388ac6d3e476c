"""Room for a download: waited for where the cleaner may make it, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from entrepot.datastore import reservations, shortage
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import OutOfSpace, SpaceAwaited
from entrepot.datastore.index import REBUILT, ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits

_CAP = 12_000
_WANTED = Digest.of(b"wanted")


class Waits:
    """Counts the pauses of whoever waits, and lets *then* happen in the first."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._then = then

    def __call__(self, _: float) -> None:
        """Pause for no time."""
        self.count += 1
        if self.count == 1:
            self._then()


def _full(size: int) -> MemoryIndex:
    index = MemoryIndex()
    index.touch({}, {REBUILT: "0"})
    index.record(Digest.of(b"taken"), size, ContentKind.BLOB, 1.0)
    return index


def test_room_that_the_cleaner_makes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is woken, and the download is stored."""
    index, woken = _full(11_000), list[int]()

    def make_room() -> None:
        row = index.entry(Digest.of(b"taken"))
        assert row
        assert index.mark_for_deletion(row)
        index.forget(row.digest)

    waits = Waits(make_room)
    monkeypatch.setattr(time, "sleep", waits)

    assert Reservations(index, SpaceLimits(room=_CAP), woken.append).reserve(_WANTED, 5000)
    assert (waits.count, woken) == (1, [5000])


@pytest.mark.parametrize(("size", "waits_for_it"), [(500, True), (5000, False)])
def test_room_that_cannot_be_made_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    waits_for_it: bool,  # noqa: FBT001 - a table's column
) -> None:
    """What is beside the content that may not be evicted can still be made."""
    index = _full(11_900)
    shortage.note(index, 10_000)
    waits, woken = Waits(), list[int]()
    monkeypatch.setattr(time, "sleep", waits)
    monkeypatch.setattr(reservations, "_WAIT_S", 0.01)

    assert not Reservations(index, SpaceLimits(room=_CAP), woken.append).reserve(_WANTED, size)
    assert bool(waits.count) == waits_for_it
    assert woken == [size]  # the cleaner looks again: the operator may have removed something


@pytest.mark.parametrize("noted", ["", "0", "nonsense", "-5", "1e9", "\u0665"])
def test_a_note_that_says_nothing_changes_nothing(noted: str) -> None:
    """The index is no more trusted than any other file."""
    index = _full(1)
    index.touch({}, {"unevictable": noted})

    assert shortage.unevictable(index) == 0


def test_a_push_may_come_again_while_the_cleaner_has_not_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stands still, or is slow: room may come. Once it looked in vain, waiting cannot help."""
    monkeypatch.setattr(time, "sleep", Waits())
    monkeypatch.setattr(reservations, "_WAIT_S", 0.02)
    index, now = _full(11_000), 1000.0
    made = Reservations(index, SpaceLimits(room=_CAP), lambda _: None, lambda: now)
    assert not made.reserve(_WANTED, 5000)
    assert isinstance(made.refusal(5000), SpaceAwaited)
    shortage.note_look(index, now - 60)
    assert isinstance(made.refusal(5000), SpaceAwaited)
    shortage.note_look(index, now - 0.01)

    refused = made.refusal(5000)

    assert isinstance(refused, OutOfSpace)
    assert (refused.size, refused.room) == (5000, _CAP - index.used_bytes())


def test_what_is_larger_than_all_room_never_fits() -> None:
    """Nor does anything where no cleaner makes room."""
    index = _full(5000)

    assert isinstance(
        Reservations(index, SpaceLimits(room=_CAP), lambda _: None).refusal(_CAP + 1), OutOfSpace
    )
    assert isinstance(Reservations(index, SpaceLimits(room=_CAP)).refusal(_CAP - 100), OutOfSpace)
