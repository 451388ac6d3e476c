"""One writer a repository."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore import layout, write_lock
from entrepot.datastore.refs import Repository

_NAME = Repository("team/app")


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    """Another repository's writers are not in the way; nothing stays behind."""
    with (
        write_lock.turn(tmp_path, _NAME, 0) as first,
        write_lock.turn(tmp_path, _NAME, 0) as second,
        write_lock.turn(tmp_path, Repository("team/other"), 0) as elsewhere,
    ):
        assert (first, second, elsewhere) == (True, False, True)

    with write_lock.turn(tmp_path, _NAME, 0) as again:
        assert again
    assert list((tmp_path / layout.WRITING).iterdir()) == []
