"""Large folders are read once, as long as nothing in them changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entrepot.datastore import listings
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.listings import FolderListings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is large, and that was last changed some time ago."""
    monkeypatch.setattr(listings, "_LARGE", 3)
    monkeypatch.setattr(time, "time", lambda: 1e10)
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    return tmp_path


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        read.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    return read


def test_a_large_folder_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names come sorted."""
    read = _counting(monkeypatch)
    known = FolderListings()

    assert [known.names(str(folder)) for _ in range(3)] == [("a", "b", "c")] * 3
    assert len(read) == 1


@pytest.mark.parametrize("change", ["made", "removed", "renamed", "another folder"])
def test_a_change_is_seen_at_once(folder: Path, change: str) -> None:
    """Whoever makes it."""
    known = FolderListings()
    known.names(str(folder))

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

    assert known.names(str(folder)) == tuple(sorted(each.name for each in folder.iterdir()))


def test_a_folder_that_changed_just_now_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change within one tick of the file system's clock would not be seen."""
    monkeypatch.undo()
    monkeypatch.setattr(listings, "_LARGE", 3)
    read = _counting(monkeypatch)
    known = FolderListings()

    for _ in range(2):
        known.names(str(folder))

    assert len(read) == 2


def test_a_small_folder_is_not_worth_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are many of these."""
    read = _counting(monkeypatch)
    monkeypatch.setattr(listings, "_LARGE", 4)
    known = FolderListings()

    for _ in range(2):
        known.names(str(folder))

    assert len(read) == 2


def test_a_few_folders_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: what was seen longest ago is read again."""
    monkeypatch.setattr(listings, "_MOST", 2)
    monkeypatch.setattr(listings, "_LARGE", 0)
    folders = [str(folder / str(number)) for number in range(3)]
    for each in folders:
        Path(each).mkdir()
    known = FolderListings()
    for each in folders:
        known.names(each)
    read = _counting(monkeypatch)

    for each in reversed(folders):
        known.names(each)

    assert read == [folders[0]]


def test_what_storage_lists_is_what_is_there(folder: Path) -> None:
    """And a folder that went meanwhile lists nothing."""
    storage = Filesystem(folder.parent)
    assert list(storage.list(folder.name)) == ["a", "b", "c"]

    storage.delete(f"{folder.name}/b")
    assert list(storage.list(folder.name)) == ["a", "c"]
    for name in ("a", "c"):
        storage.delete(f"{folder.name}/{name}")
    assert list(storage.list(folder.name)) == []
