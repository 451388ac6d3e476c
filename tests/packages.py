"""The folders of code, for tests that search the source of the whole product."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = tuple(sorted(each.name for each in (ROOT / "entrepot").iterdir() if each.is_symlink()))
"""The folders that the import package `entrepot` links, such as `registry`."""
