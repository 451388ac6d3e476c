"""One writer a repository."""

from __future__ import annotations

from pathlib import Path

from datastore import layout, writing
from datastore.refs import Repository

_NAME = Repository("team/app")


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    """Another repository's writers are not in the way; nothing stays behind."""
    with (
        writing.turn(tmp_path, _NAME, 0) as first,
        writing.turn(tmp_path, _NAME, 0) as second,
        writing.turn(tmp_path, Repository("team/other"), 0) as elsewhere,
    ):
        assert (first, second, elsewhere) == (True, False, True)

    with writing.turn(tmp_path, _NAME, 0) as again:
        assert again
    assert list((tmp_path / layout.WRITING).iterdir()) == []
