"""The fixture for the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.config_folder import ConfigFolder


@pytest.fixture
def config_folder(tmp_path: Path) -> ConfigFolder:
    """Return a folder without a configuration file."""
    return ConfigFolder(tmp_path)
