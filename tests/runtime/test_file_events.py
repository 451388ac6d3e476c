"""Tests of `FileEvents`, whose descriptor is readable after a watched file has changed."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.runtime.file_events import CHANGED, DELETED, FileEvents


@pytest.fixture
def events() -> Iterator[FileEvents]:
    """Yield a `FileEvents` that watches no file yet."""
    found = FileEvents()
    yield found
    found.close()


def _has_come(events: FileEvents) -> bool:
    found = bool(select.select([events.fd], [], [], 0)[0])
    events.clear()
    return found


def test_a_touch_of_a_watched_file_is_an_event(tmp_path: Path, events: FileEvents) -> None:
    """If a program touches a watched file, the descriptor is readable until `clear` is called."""
    path = tmp_path / "request"
    path.touch()
    events.watch(path, CHANGED)
    assert not _has_come(events)

    path.touch()

    assert _has_come(events)
    assert not _has_come(events)


def test_only_a_deletion_in_a_watched_folder_is_an_event(
    tmp_path: Path, events: FileEvents
) -> None:
    """If only deletions in a folder are watched, a new or renamed file causes no event."""
    events.watch(tmp_path, DELETED)
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(tmp_path / "renamed")
    assert not _has_come(events)

    (tmp_path / "renamed").unlink()

    assert _has_come(events)


def test_a_missing_file_is_an_error(tmp_path: Path, events: FileEvents) -> None:
    """Watching a file that does not exist raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        events.watch(tmp_path / "absent", CHANGED)
