"""Tests of `Display`, which writes counters and gauges into the metrics file."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import SNAPSHOT_AT
from entrepot.logger.display import Display, SpoolFolder
from entrepot.runtime.clock import Clock


def test_the_number_of_failing_checks_is_a_gauge_if_there_are_checks(tmp_path: Path) -> None:
    """If health checks are configured, a gauge shows the number of failing checks.

    Without checks, the gauge is absent.
    """
    failing = [2]
    checked = Display(tmp_path / "a", MemoryIndex(), build={}, failing=lambda: failing[0])
    Display(tmp_path / "b", MemoryIndex(), build={}).show({}, 0)
    for number in (2, 0):
        failing[0] = number
        checked.show({}, 0)

        assert f"\nentrepot_health_checks_failing {number}.0\n" in (tmp_path / "a").read_text()
    assert "health_checks" not in (tmp_path / "b").read_text()


def test_the_gauges_of_a_bucket_are_written_only_with_a_bucket(tmp_path: Path) -> None:
    """With a bucket, gauges show the size of the spool folder, including uploads, and its limit.

    After a snapshot of the index has been written, a gauge shows the snapshot's age.
    """
    spool, index, page = tmp_path / "spool", MemoryIndex(), tmp_path / "metrics"
    (spool / "uploads").mkdir(parents=True)
    (spool / "sha256-1").write_bytes(bytes(10))
    (spool / "uploads" / "one").write_bytes(bytes(5))
    clock = Clock(wall=lambda: 5000.0)
    Display(page, index, build={}, clock=clock).show({}, 0)
    assert "entrepot_spool" not in page.read_text()
    display = Display(page, index, build={}, clock=clock, spool=SpoolFolder(spool, 50))

    display.show({}, 0)
    assert "\nentrepot_spool_bytes 15.0\n" in page.read_text()
    assert "\nentrepot_spool_limit_bytes 50.0\n" in page.read_text()
    assert "entrepot_snapshot_age" not in page.read_text()
    index.notes.put({SNAPSHOT_AT: str(clock() - 30)})
    display.show({}, 0)
    assert "\nentrepot_snapshot_age_seconds 30" in page.read_text()
