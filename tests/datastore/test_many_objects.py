"""Tests that a rebuild from many objects in a bucket sends few requests and needs little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.s3_generator import GeneratedBucket

pytestmark = pytest.mark.slow

_OBJECTS_EACH = 22
_MEMORY = 200 * 1024 * 1024
_PROGRAM = "tests.datastore.rebuild_bucket"


def _rebuilt(bucket: GeneratedBucket, state: Path) -> dict[str, Any]:
    """Run `rebuild_bucket` in a separate process; return the figures that it prints."""
    bucket.requests.clear()
    done = subprocess.run(
        [sys.executable, "-m", _PROGRAM, bucket.url, str(state)],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "objects",
    [3_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(1400)])],
    ids=["few", "many"],
)
def test_a_rebuild_of_many_objects_costs_few_requests(objects: int, tmp_path: Path) -> None:
    """A rebuild with a snapshot sends at most 256 GETs, and a list request for each 1,000 objects.

    Without a snapshot, it sends a GET for each manifest. The process uses at most 200 MiB of
    memory, even while it writes the next snapshot.
    """
    with GeneratedBucket(objects // _OBJECTS_EACH + 1) as bucket:
        without = _rebuilt(bucket, tmp_path / "first")
        read = bucket.requests["GET docker"]
        lists = bucket.requests["LIST"]
        second = _rebuilt(bucket, tmp_path / "second")

        assert (read, bucket.requests["GET docker"]) == (bucket.images, 0)
        assert max(lists, bucket.requests["LIST"]) <= bucket.count // 1000 + 100
        assert 0 < bucket.requests["GET entrepot"] <= 256
    assert second["rows"] == without["rows"] == bucket.images * 10
    assert second["edges"] == without["edges"] == 9
    assert second["used"] == without["used"]
    assert max(without["memory"], second["memory"]) <= _MEMORY
