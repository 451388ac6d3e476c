"""Run a worker on an empty data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.push.pushing import Pushing, pushing


@pytest.fixture
def p(tmp_path: Path) -> Pushing:
    """Return the worker."""
    return pushing(tmp_path)
