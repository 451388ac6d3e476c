"""A change of a watched file makes a descriptor readable."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.runtime.file_events import CHANGED, DELETED, FileEvents


@pytest.fixture
def events() -> Iterator[FileEvents]:
    """Return events without a watched file."""
    found = FileEvents()
    yield found
    found.close()


def _has_come(events: FileEvents) -> bool:
    found = bool(select.select([events.fd], [], [], 0)[0])
    events.clear()
    return found


def test_a_touch_of_a_watched_file_is_an_event(tmp_path: Path, events: FileEvents) -> None:
    """If a program touches a watched file, the descriptor is readable until it is cleared."""
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
    """A new or renamed file in a folder is no event, if only deletions are watched."""
    events.watch(tmp_path, DELETED)
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(tmp_path / "renamed")
    assert not _has_come(events)

    (tmp_path / "renamed").unlink()

    assert _has_come(events)


def test_a_missing_file_is_an_error(tmp_path: Path, events: FileEvents) -> None:
    """A file that does not exist cannot be watched."""
    with pytest.raises(FileNotFoundError):
        events.watch(tmp_path / "absent", CHANGED)
