"""Tests of `Purge`, which raises the cache epoch soon after content was deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.edge import cache_epoch
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.edge.purge import Purge
from tests.system.waiting import eventually


def test_a_sweep_purges_the_cache_once(tmp_path: Path) -> None:
    """If a sweep deletes a thousand objects, the epoch rises once, soon after the first removal."""
    cache_epoch.begin(tmp_path)
    purge = Purge(tmp_path)
    for _ in range(1000):
        purge.removed()

    eventually(lambda: CacheEpoch(tmp_path).now() == "0000000002", what="it rises")
    purge.removed()
    eventually(lambda: CacheEpoch(tmp_path).now() == "0000000003", what="it rises again")


def test_a_stopped_appliance_has_no_cache_to_purge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If there is no run directory, `Purge` raises no error and logs that it purged no cache."""
    caplog.set_level("DEBUG", "entrepot.edge")
    Purge(tmp_path).removed()

    eventually(lambda: caplog.messages == ["cache not purged"], what="it has tried")
