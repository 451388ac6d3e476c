"""`Rounds` and `Inspection` correct wrong counters of the index before they cause an eviction."""

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
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.reservations import last_eviction_failure
from tests.cleaner.stock import pull, push
from tests.clock import Clock


class _OpenBarrier:
    blind = 0.0

    def fetch(self) -> str:
        """Return an empty text, because the index has every use."""
        return ""


def _falsify(store: DataDirectory, total: int) -> None:
    with closing(sqlite3.connect(store.state / layout.INDEX, isolation_level=None)) as foreign:
        foreign.execute("UPDATE total SET bytes = ?", (total,))


def test_a_wrong_total_evicts_nothing(
    store: DataDirectory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the counter of used bytes is wrong, a round corrects it before it evicts content.

    Otherwise a wrong counter, such as 10 TB in this test, would cause the eviction of all proxied
    content.
    """
    pulled = pull(store, 1, used=clock())
    limit = 2 * store.index.reservations.used_bytes()
    _falsify(store, 10**13)
    tools = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_OpenBarrier(),
        clock=clock,
        stopped=lambda: False,
    )

    Rounds(tools, StoreLimits(0, limit, limit, limit)).run(0)

    assert all(pulled.is_here(store))
    assert store.index.reservations.used_bytes() == limit // 2
    assert "access index was wrong" in caplog.text


def test_the_index_is_inspected_periodically(
    store: DataDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """An inspection corrects a wrong counter of the index, and then starts a round."""
    woken = []
    inspection = Inspection(store.index, lambda: woken.append(True))
    caplog.set_level(logging.WARNING)
    assert inspection.look() >= 30
    assert (woken, caplog.messages) == ([], [])
    _falsify(store, -5)

    inspection.look()

    assert woken == [True]
    assert store.index.reservations.used_bytes() == 0
    assert "access index was wrong" in caplog.text


class _CountingIndex(MemoryIndex):
    """An index that records its inspections; each inspection takes 2 s by the clock of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.inspections: list[bool] = []
        self.now = 0.0
        self.is_out = False

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Record the inspection, or raise IndexUnavailable if `is_out` is set."""
        if self.is_out:
            raise IndexUnavailable("out on demand")
        self.inspections.append(thoroughly)
        self.now += 2.0
        return ""


def test_all_pages_are_read_at_the_start_and_daily() -> None:
    """The first inspection reads all pages of the index, and so does one inspection each day.

    If an inspection takes 2 s, the next one begins 400 s later.
    """
    index = _CountingIndex()
    inspection = Inspection(index, timer=lambda: index.now)
    index.is_out = True
    assert inspection.look() == 30
    index.is_out = False

    pauses = [inspection.look(), inspection.look()]
    index.now += 24 * 3600
    inspection.look()

    assert index.inspections == [True, False, True]
    assert pauses == [400, 400]


def test_a_round_without_enough_space_is_noted(store: DataDirectory, clock: Clock) -> None:
    """A round that cannot free the needed space records this, so that pushes do not wait."""
    push(store, 1, used=clock() - 5000)
    limit = store.index.reservations.used_bytes() + 100
    tools = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_OpenBarrier(),
        clock=clock,
        stopped=lambda: False,
    )
    rounds = Rounds(tools, StoreLimits(0, limit, limit, limit))
    rounds.run(0)
    assert last_eviction_failure(store.index.notes) == 0

    rounds.run(1000)

    assert last_eviction_failure(store.index.notes) == clock()
