"""Define the fixtures of the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a folder without a configuration file."""
    return Desk(tmp_path)
