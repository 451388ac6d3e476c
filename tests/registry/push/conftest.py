"""Provide a worker of the registry for all tests of pushes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.push.pushing import Pushing, pushing


@pytest.fixture
def p(tmp_path: Path) -> Pushing:
    """Return a worker of the registry on an empty data directory."""
    return pushing(tmp_path)
