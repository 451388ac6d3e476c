"""Tests how the logger converts times of the wall clock to times of the appliance's clock."""

from __future__ import annotations

import itertools

import pytest

from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.logger.batch import ACCESS, LogBatch
from entrepot.logger.position import LogPosition
from entrepot.logger.tail import Batch
from entrepot.runtime.clock import Clock
from tests.logger.index import FailingIndex
from tests.logger.lines import answer, written

_DAY = 86400.0
_START = 1_700_000_000.0


class Machine:
    """A machine whose wall clock is wrong by `off` seconds, with an access log and an index."""

    def __init__(self) -> None:
        self.up, self.off = 1000.0, 0.0
        self.index = FailingIndex()
        self.clock = Clock(wall=self.wall, elapsed=lambda: self.up, boot=lambda: "boot")
        self.ledger = LogBatch(self.index, clock=self.clock)
        self._offsets = itertools.count(100)

    def wall(self) -> float:
        """Return the time of the wall clock (s), which HAProxy writes into its log lines."""
        return _START + self.up + self.off

    def use(self, name: str, wall: float | None = None) -> None:
        """Write a log line about the blob *name* and commit it."""
        digest = Digest.of(name.encode())
        if self.index.entry(digest) is None:
            self.index.record(digest, 1, ContentKind.BLOB, 0.0)
        at = self.wall() if wall is None else wall
        line = answer(start=int(at * 1_000_000), duration=0, digest=str(digest))
        self.ledger.access(
            Batch((written(line),), LogPosition(1, next(self._offsets), "aa", 1, 0.0))
        )
        self.ledger.commit(is_whole=True)

    def order(self) -> str:
        """Return the names of the blobs in the index, the least recently used first."""
        names = {Digest.of(name.encode()): name for name in "abcdef"}
        return "".join(names[each.digest] for each in self.index.oldest(None, 10))


@pytest.fixture
def machine() -> Machine:
    """Return a machine with a correct clock."""
    return Machine()


@pytest.mark.parametrize("jump", [40 * _DAY, _DAY, -3600.0], ids=["40d", "1d", "-1h"])
def test_a_jump_of_the_clock_keeps_the_order_of_access_times(machine: Machine, jump: float) -> None:
    """If the wall clock jumps and is corrected later, the order of last uses stays correct."""
    for name, off in (("a", 0.0), ("b", jump), ("c", jump), ("d", 0.0), ("e", 0.0)):
        machine.off = off
        machine.up += 8
        machine.clock.keep()
        machine.use(name)

    assert machine.order() == "abcde"
    last = machine.index.entry(Digest.of(b"e"))
    assert last
    assert last.used == pytest.approx(machine.wall(), abs=0.01)


def test_a_line_written_before_a_jump_and_read_after_it_is_not_older_than_committed_ones(
    machine: Machine,
) -> None:
    """A line written before a clock jump and read afterwards is not older than committed uses.

    The logger raises the time of this use to at least the time of the uses that were committed
    earlier.
    """
    machine.use("a")
    machine.up += 1
    written_at = machine.wall()
    machine.off = 40 * _DAY
    machine.up += 1

    machine.use("b", wall=written_at)
    machine.up += 1
    machine.use("c")

    assert machine.order() == "abc"


def test_a_line_written_during_a_jump_and_read_after_it_is_not_in_the_future(
    machine: Machine,
) -> None:
    """A use that was logged while the wall clock was ahead gets no time in the future.

    In this test the content would otherwise be evicted forty days too late.
    """
    machine.off = 40 * _DAY
    written_at = machine.wall()
    machine.off = 0.0
    machine.use("a", wall=written_at)
    machine.up += 1

    machine.use("b")

    assert machine.order() == "ab"


def test_a_restarted_logger_knows_the_latest_access_time(machine: Machine) -> None:
    """After a restart, the logger knows the latest use, so later lines get no earlier time."""
    machine.use("a")
    machine.up += 1
    written_at = machine.wall()
    machine.off = 40 * _DAY
    machine.up += 1
    machine.ledger = LogBatch(machine.index, clock=machine.clock)

    machine.use("b", wall=written_at)

    assert machine.ledger.position(ACCESS) is not None
    assert machine.order() == "ab"
