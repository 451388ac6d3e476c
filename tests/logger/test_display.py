"""The logger writes gauges beside its counters."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.logger.display import Display


def test_the_number_of_failing_checks_is_a_gauge_if_there_are_checks(tmp_path: Path) -> None:
    """The number of failing checks is a gauge if there are checks; else no file is looked up."""
    failing = [2]
    checked = Display(tmp_path / "a", MemoryIndex(), build={}, failing=lambda: failing[0])
    Display(tmp_path / "b", MemoryIndex(), build={}).show({}, 0)
    for number in (2, 0):
        failing[0] = number
        checked.show({}, 0)

        assert f"\nentrepot_health_checks_failing {number}.0\n" in (tmp_path / "a").read_text()
    assert "health_checks" not in (tmp_path / "b").read_text()
