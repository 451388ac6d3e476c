"""Tests that the logger's memory is bounded, however much the log lines vary."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.datastore import accesslog
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.storage import TimedStat
from entrepot.logger.batch import LogBatch
from entrepot.logger.filetimes import FileTimes
from entrepot.logger.position import LogPosition
from entrepot.logger.tail import Batch
from tests.logger.lines import answer, event, written
from tests.processes import run
from tests.timed_storage import TimedMemoryStorage

pytestmark = pytest.mark.slow

_LINE = written(answer(digest="DIGEST", repository="NUM.test/a", user="NUM", uri="/v2/NUM"))


class _Storage(TimedMemoryStorage):
    """A storage in which every blob exists, and which does not set times."""

    def stat(self, key: str) -> TimedStat:
        """Return the attributes of a file of one byte."""
        return TimedStat(key, 1, 0.0)


def _lines(first: int, count: int) -> Iterator[bytes]:
    """Yield log lines; each has values that no other line has."""
    for number in range(first, first + count):
        digest = hashlib.sha256(b"%d" % number).hexdigest().encode()
        yield _LINE.replace(b"DIGEST", b"sha256:" + digest).replace(b"NUM", b"n%d" % number)
        if number % 50 == 0:
            yield b'{"start":%d,"no":"line"}' % number


def _events(first: int) -> list[bytes]:
    fields: dict[str, Any] = {"operation": f"o{first}", "outcome": f"o{first}", "seconds": 1.0}
    return [
        event("upstream", upstream=f"u{first}.test", **fields),
        event("breaker", upstream=f"u{first}.test", state="open", reason=f"r{first}"),
        event(f"unknown{first}", upstream="x"),
        event("eviction", reason=f"r{first}", size=1, idle=1),
    ]


class Fed:
    """A batch and the file times of the logger; `feed` passes lines to both and counts them."""

    def __init__(self, *, limit: int) -> None:
        index = MemoryIndex()
        self._ledger = LogBatch(index)
        self._times = FileTimes(_Storage(), index, limit=limit)
        self._count = 0

    def feed(self, count: int) -> None:
        """Pass *count* new lines to the logger, and commit after every 1,000 lines."""
        for first in range(self._count, self._count + count, 1000):
            position = LogPosition(1, first, "aa", 1, 0.0)
            self._ledger.access(Batch(list(_lines(first, 1000)), position))
            self._ledger.events(Batch(_events(first), position))
            self._times.follow(self._ledger.commit(is_whole=True))
        self._count += count


def test_memory_does_not_grow_with_varied_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 4,000 lines, 4,000 more lines with new values do not make the logger's memory grow."""
    monkeypatch.setattr(accesslog, "KEPT_BYTES", 100_000)
    fed = Fed(limit=500)
    fed.feed(2000)
    tracemalloc.start()
    try:
        fed.feed(2000)
        before, _ = tracemalloc.get_traced_memory()
        fed.feed(4000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 500_000


_WITHIN_S = 1200
_FEED = """
import sys
from pathlib import Path
from tests.logger.test_bounded import Fed

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

fed = Fed(limit=20_000)
fed.feed(200_000)
before = resident()
fed.feed(2_000_000)
print(before, resident())
"""


@pytest.mark.soak
@pytest.mark.timeout(_WITHIN_S + 60)  # The time limit of the subprocess expires first.
def test_millions_of_varied_lines_need_no_more_memory_than_thousands() -> None:
    """After 200,000 lines, two million more make the logger's memory grow by less than a tenth.

    The logger needs less than 90 MiB.
    """
    before, after = map(int, run(_FEED, within=_WITHIN_S).split())

    assert after < 90 * 1024 * 1024
    assert after < before * 1.1
