"""Tests that `FolderListings` caches the names in a large folder until the folder changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entrepot.datastore import listings
from entrepot.datastore.listings import FolderListings
from tests.disk_storage import disk_storage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that counts as large, and whose last change was some time ago."""
    monkeypatch.setattr(listings, "_LARGE", 3)
    monkeypatch.setattr(time, "time", lambda: 1e10)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b", "a", "c"):
        (folder / name).touch()
    probe = tmp_path / "probe"
    while not probe.exists() or probe.stat().st_ctime_ns <= folder.stat().st_ctime_ns:
        probe.touch()  # The clock of the file system advances only every few milliseconds.
    return folder


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        read.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    return read


def test_a_large_folder_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the names in a large folder are requested three times, the folder is read once."""
    read = _counting(monkeypatch)
    cache = FolderListings()

    assert [cache.names(str(folder)) for _ in range(3)] == [("a", "b", "c")] * 3
    assert len(read) == 1


@pytest.mark.parametrize("change", ["made", "removed", "renamed", "another folder"])
def test_a_change_is_seen_at_once(folder: Path, change: str) -> None:
    """After a change of a cached folder, the next call returns the new names."""
    cache = FolderListings()
    cache.names(str(folder))

    match change:
        case "made":
            (folder / "d").touch()
        case "removed":
            (folder / "a").unlink()
        case "renamed":
            (folder / "a").rename(folder / "z")
        case _:
            folder.rename(f"{folder}-gone")
            folder.mkdir()

    assert cache.names(str(folder)) == tuple(sorted(each.name for each in folder.iterdir()))


def test_a_folder_that_has_just_changed_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that has just changed is not cached.

    Another change within the same tick of the file system's clock would not be detected.
    """
    monkeypatch.undo()
    monkeypatch.setattr(listings, "_LARGE", 3)
    read = _counting(monkeypatch)
    cache = FolderListings()

    for _ in range(2):
        cache.names(str(folder))

    assert len(read) == 2


def test_a_small_folder_is_not_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small folder is not cached, because its names can be read and sorted quickly."""
    read = _counting(monkeypatch)
    monkeypatch.setattr(listings, "_LARGE", 4)
    cache = FolderListings()

    for _ in range(2):
        cache.names(str(folder))

    assert len(read) == 2


def test_the_number_of_cached_folders_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of cached folders is limited; the folder that was read earliest is dropped."""
    monkeypatch.setattr(listings, "_MOST", 2)
    monkeypatch.setattr(listings, "_LARGE", 0)
    folders = [str(folder / str(number)) for number in range(3)]
    for each in folders:
        Path(each).mkdir()
    cache = FolderListings()
    for each in folders:
        cache.names(each)
    read = _counting(monkeypatch)

    for each in reversed(folders):
        cache.names(each)

    assert read == [folders[0]]


def test_storage_lists_the_current_names(folder: Path) -> None:
    """After values were deleted, a storage lists the current names of their folder."""
    storage = disk_storage(folder.parent)
    assert list(storage.list(folder.name)) == ["a", "b", "c"]

    storage.delete(f"{folder.name}/b")
    assert list(storage.list(folder.name)) == ["a", "c"]
    for name in ("a", "c"):
        storage.delete(f"{folder.name}/{name}")
    assert list(storage.list(folder.name)) == []
