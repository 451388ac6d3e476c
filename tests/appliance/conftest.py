"""The fixtures for tests with a real HAProxy in front of a stand-in for a worker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.appliance.haproxy import stub_worker
from tests.appliance.stub_worker import StubWorker

_NUMBERS = count()


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """Return a folder with a short path, for the sockets of HAProxy and the stand-in."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def worker(run: Path) -> Iterator[StubWorker]:
    """Run a stand-in for a worker; a test sets the headers of the stand-in's responses."""
    with stub_worker(run, 1) as started:
        yield started


@pytest.fixture
def path() -> str:
    """Return the path of a manifest that no earlier test has requested."""
    return f"/v2/one.test/app/manifests/{next(_NUMBERS)}"
