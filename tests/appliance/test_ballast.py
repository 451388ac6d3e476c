"""Test the ballast file, which reserves disk space for a start on a full disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance import ballast, disk, serve
from entrepot.datastore.budget import BALLAST_BYTES


def test_the_ballast_allocates_disk_blocks_once(tmp_path: Path) -> None:
    """The ballast file has all its disk blocks, because a sparse file would reserve nothing.

    A second call of `create` allocates no more blocks.
    """
    ballast.create(tmp_path)
    ballast.create(tmp_path)
    (found,) = tmp_path.iterdir()

    assert found.stat().st_size == BALLAST_BYTES
    assert found.stat().st_blocks * 512 >= BALLAST_BYTES


def test_the_ballast_is_released_once(tmp_path: Path) -> None:
    """The ballast is released once; later starts on the full disk go on without it."""
    ballast.create(tmp_path)

    assert ballast.release(tmp_path)
    assert not ballast.release(tmp_path)


def test_a_folder_without_space_gets_no_ballast(tmp_path: Path) -> None:
    """If the ballast file cannot be created, `create` raises no error."""
    ballast.create(tmp_path / "missing")

    assert not ballast.release(tmp_path / "missing")


def _released(data: Path, state: Path, caplog: pytest.LogCaptureFixture) -> list[tuple[Path, str]]:
    """Try the folders as a start does; return the path and the condition of each logged release."""
    environ = {"REGISTRYDIR": str(data), "ENTREPOT_STATEDIR": str(state)}
    settings = config.load([], environ).settings
    with caplog.at_level(logging.INFO):
        serve._try_folders(settings)
    return [
        (vars(each)["path"], vars(each)["disk"])
        for each in caplog.records
        if each.getMessage() == "reserved disk space released"
    ]


@pytest.mark.parametrize("condition", ["full", "over its quota", "broken"])
def test_a_start_logs_why_it_releases_the_ballast(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    condition: str,
) -> None:
    """A start that releases the ballast logs the disk's condition, such as an exceeded quota."""
    ballast.create(tmp_path)
    monkeypatch.setattr(disk, "condition", lambda _: condition)

    assert _released(tmp_path, tmp_path, caplog) == [(tmp_path, condition)]
    assert not ballast.release(tmp_path)


def test_the_ballast_stays_if_only_the_disk_of_the_data_directory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If only the disk of the data directory is full, the ballast in the state directory stays."""
    data, state = tmp_path / "data", tmp_path / "state"
    for each in (data, state):
        each.mkdir()
    ballast.create(state)
    monkeypatch.setattr(disk, "condition", lambda folder: "full" if folder == data else "")

    assert _released(data, state, caplog) == []
    assert ballast.release(state)
