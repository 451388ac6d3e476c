"""Test the size limit of the spool of an appliance with a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.appliance import bucket
from entrepot.config.schema import Settings
from entrepot.datastore.disk_space import DiskSpace


def _settings(state: Path, **keys: object) -> Settings:
    return Settings.from_tree({"storage": {"statedir": state, **keys}})


def test_the_default_is_most_of_the_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool may use 80 % of the space that is free at the start, or the size in `spoolsize`."""
    monkeypatch.setattr(bucket, "disk_space", lambda _: DiskSpace(1000, None, is_read_only=False))

    assert bucket.with_spool_size(_settings(tmp_path)).storage.spoolsize == 800
    given = _settings(tmp_path, spoolsize="5G")
    assert bucket.with_spool_size(given).storage.spoolsize == 5 * 1024**3


def test_an_unreadable_disk_has_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the free space cannot be read, the spool has no limit, and the start goes on.

    Each download or push then gets the error of the disk.
    """

    def fail(_: Path) -> DiskSpace:
        raise OSError("input/output error")

    monkeypatch.setattr(bucket, "disk_space", fail)

    assert bucket.with_spool_size(_settings(tmp_path)).storage.spoolsize is None
