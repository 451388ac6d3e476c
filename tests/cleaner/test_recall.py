"""What the cleaner has HAProxy forget."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleaner.recall import Recall
from datastore import generation
from datastore.generation import Generation
from tests.system.waiting import eventually


def test_a_sweep_is_forgotten_in_one_go(tmp_path: Path) -> None:
    """A thousand files that go cost one emptying of HAProxy's memory, soon after."""
    generation.begin(tmp_path)
    recall = Recall(tmp_path)
    for _ in range(1000):
        recall.removed()

    eventually(lambda: Generation(tmp_path).now() == "0000000002", what="it rises")
    recall.removed()
    eventually(lambda: Generation(tmp_path).now() == "0000000003", what="it rises again")


def test_where_nobody_serves_there_is_nothing_to_forget(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`entrepot clean` works on a data directory alone."""
    caplog.set_level("DEBUG", "cleaner")
    Recall(tmp_path).removed()

    eventually(lambda: caplog.messages == ["nobody serves"], what="it has tried")
