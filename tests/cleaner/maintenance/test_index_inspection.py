"""False counters are found before they cost anything, and in any case soon."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

import pytest

from entrepot.cleaner.maintenance.index_inspection import Inspection
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout, shortage
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import IndexUnavailable
from tests.cleaner.stock import pull, push
from tests.clock import Clock


class _Good:
    blind = 0.0

    def fetch(self) -> str:
        """Return what is wrong with the news."""
        return ""


def _falsify(store: DataDirectory, total: int) -> None:
    with closing(sqlite3.connect(store.state / layout.INDEX, isolation_level=None)) as foreign:
        foreign.execute("UPDATE total SET bytes = ?", (total,))


def test_a_false_total_evicts_nothing(
    store: DataDirectory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten terabytes that are nowhere would take all that was pulled through."""
    pulled = pull(store, 1, used=clock())
    limit = 2 * store.index.used_bytes()
    _falsify(store, 10**13)
    hands = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_Good(),
        clock=clock,
        stopped=lambda: False,
    )

    Rounds(hands, StoreLimits(0, limit, limit, limit)).run(0)

    assert all(pulled.is_here(store))
    assert store.index.used_bytes() == limit // 2
    assert "access index was wrong" in caplog.text


def test_it_looks_now_and_then(store: DataDirectory, caplog: pytest.LogCaptureFixture) -> None:
    """And has a round made after it found something."""
    woken = []
    inspection = Inspection(store.index, lambda: woken.append(True))
    caplog.set_level(logging.WARNING)
    assert inspection.look() >= 30
    assert (woken, caplog.messages) == ([], [])
    _falsify(store, -5)

    inspection.look()

    assert woken == [True]
    assert store.index.used_bytes() == 0
    assert "access index was wrong" in caplog.text


class _Asked(MemoryIndex):
    """Notes how it was inspected; it takes 2 s of `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []
        self.now = 0.0
        self.is_out = False

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Note it."""
        if self.is_out:
            raise IndexUnavailable("out on demand")
        self.asked.append(thoroughly)
        self.now += 2.0
        return ""


def test_all_pages_are_read_at_the_start_and_daily() -> None:
    """And a look that takes long is followed by a long time without one."""
    index = _Asked()
    inspection = Inspection(index, timer=lambda: index.now)
    index.is_out = True
    assert inspection.look() == 30
    index.is_out = False

    pauses = [inspection.look(), inspection.look()]
    index.now += 24 * 3600
    inspection.look()

    assert index.asked == [True, False, True]
    assert pauses == [400, 400]


def test_a_round_that_found_too_little_room_says_so(store: DataDirectory, clock: Clock) -> None:
    """Pushes that wait for room then learn that waiting cannot help."""
    push(store, 1, used=clock() - 5000)
    limit = store.index.used_bytes() + 100
    hands = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_Good(),
        clock=clock,
        stopped=lambda: False,
    )
    rounds = Rounds(hands, StoreLimits(0, limit, limit, limit))
    rounds.run(0)
    assert shortage.looked(store.index) == 0

    rounds.run(1000)

    assert shortage.looked(store.index) == clock()
