"""Tests that file locks exclude other processes, and other threads of the same process."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import threading
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.errors import NotFound, StorageBroken
from entrepot.datastore.locks import (
    holding,
    is_locked,
    lock,
    repository_lock,
    try_lock,
    try_lock_present,
)
from entrepot.datastore.refs import Repository
from tests.processes import next_line, running

_NAME = Repository("team/app")
_HOLD = """
import sys
from pathlib import Path
from entrepot.datastore.locks import try_lock
held = try_lock(Path(sys.argv[1]))
print("locked" if held else "refused")
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a lock file in a folder that does not exist yet."""
    return tmp_path / "spool" / "file"


def test_a_lock_creates_its_file_and_folder(path: Path) -> None:
    """If the lock file and its folder do not exist, `try_lock` creates both."""
    with try_lock(path) or pytest.fail("refused") as held:
        assert path.exists()
        assert os.path.samestat(os.fstat(held.fd), path.stat())


def test_two_opens_in_one_process_exclude_each_other(path: Path) -> None:
    """If one process opens a lock file twice, only one of the two open files can have the lock."""
    first = try_lock(path)

    assert first is not None
    assert try_lock(path) is None
    first.close()
    second = try_lock(path)
    assert second is not None
    second.close()


def test_a_lock_of_another_process_excludes_until_it_ends(path: Path) -> None:
    """A lock of another process excludes this process until the other process is killed."""
    with running(_HOLD, path) as process:
        assert next_line(process) == "locked"

        assert (try_lock(path), is_locked(path)) == (None, True)
        process.kill()
        process.wait()

        assert is_locked(path) is False
        with try_lock(path) or pytest.fail("refused"):
            pass


def test_our_lock_excludes_another_process(path: Path) -> None:
    """While this process has a lock, another process does not get it."""
    with try_lock(path) or pytest.fail("refused"), running(_HOLD, path) as process:
        assert next_line(process) == "refused"


def test_a_locked_file_keeps_its_content(path: Path) -> None:
    """Locking a file does not truncate it, so another writer can continue a partial download."""
    path.parent.mkdir()
    path.write_bytes(b"so far")

    with try_lock(path) or pytest.fail("refused") as held:
        os.pwrite(held.fd, b"!", 6)

    assert path.read_bytes() == b"so far!"


def test_a_lock_on_a_file_that_was_renamed_meanwhile_is_retried(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file is renamed after it is opened and before it is locked, a new file is locked.

    For example, a commit can rename a spool file to a blob. Without the new file, the process would
    lock the blob.
    """
    flock = fcntl.flock
    moves = iter([path.with_name("committed")])

    def move_on_first(descriptor: int, operation: int) -> None:
        for target in moves:
            path.rename(target)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", move_on_first)

    with try_lock(path) or pytest.fail("refused") as held:
        assert os.path.samestat(os.fstat(held.fd), path.stat())
        assert not os.path.samestat(os.fstat(held.fd), path.with_name("committed").stat())


def test_unlink_removes_the_locked_file(path: Path) -> None:
    """`unlink` removes the locked file; the path can then be locked a second time."""
    with try_lock(path) or pytest.fail("refused") as held:
        held.unlink()

        assert not path.exists()
        with try_lock(path) or pytest.fail("refused"):
            pass


def test_unlink_keeps_a_newer_file_under_the_same_path(path: Path) -> None:
    """If another file has replaced the locked file at its path, `unlink` removes neither."""
    with try_lock(path) or pytest.fail("refused") as held:
        path.rename(path.with_name("committed"))
        path.write_bytes(b"a newer file")

        held.unlink()

    assert path.read_bytes() == b"a newer file"


def test_unlink_may_be_repeated(path: Path) -> None:
    """A second call of `unlink` does nothing."""
    with try_lock(path) or pytest.fail("refused") as held:
        held.unlink()
        held.unlink()


def test_a_second_close_does_not_close_another_file(path: Path, tmp_path: Path) -> None:
    """A second call of `close` does not close another file.

    The kernel uses the number of a closed descriptor for the next file that is opened.
    """
    held = try_lock(path)
    assert held is not None
    held.close()

    with (tmp_path / "other").open("wb") as other:
        held.close()

        assert os.fstat(other.fileno())


def test_a_waiter_gets_the_lock_when_it_is_released(path: Path) -> None:
    """A thread that waits for a lock gets it when another thread releases it."""
    first = try_lock(path)
    assert first is not None
    locked = threading.Event()

    def wait() -> None:
        with lock(path, math.inf) or pytest.fail("timed out"):
            locked.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not locked.is_set()
    first.close()
    waiter.join(timeout=10)

    assert locked.is_set()


def test_waiting_for_a_lock_ends_at_the_timeout(path: Path) -> None:
    """If a lock is not released within the time-out, `lock` returns None."""
    with try_lock(path) or pytest.fail("refused"):
        assert lock(path, 0.02) is None


def test_is_locked_leaves_no_file_and_no_lock(path: Path) -> None:
    """After a call of `is_locked`, there is no new file, and the lock is free."""
    assert is_locked(path) is False
    assert not path.exists()

    with try_lock(path) or pytest.fail("refused") as held:
        held.close()
        assert is_locked(path) is False
        assert is_locked(path) is False


def test_try_lock_present_does_not_create_the_file(path: Path) -> None:
    """If the lock file does not exist, `try_lock_present` raises NotFound and creates no file."""
    with pytest.raises(NotFound):
        try_lock_present(path)
    assert not path.exists()

    with try_lock(path) or pytest.fail("refused"):
        assert try_lock_present(path) is None
    with try_lock_present(path) or pytest.fail("refused"):
        assert try_lock(path) is None


def test_a_file_system_without_locks_raises_storage_broken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file system does not support locks (ENOLCK), `try_lock` raises StorageBroken."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StorageBroken, match="no locks"):
        try_lock(path)


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_lock_is_released_if_its_file_cannot_be_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file of a lock cannot be removed after the block, the lock is released anyway."""
    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(Path, "unlink", _refuse)

    assert path.exists()
    with holding(path, 0) as again:
        assert again
    assert not path.exists()


def test_a_lock_is_released_if_its_file_cannot_be_examined(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file of a lock cannot be examined before its removal, the lock is released anyway."""
    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(os, "fstat", _refuse)

    assert not is_locked(path)


def test_a_failed_removal_does_not_replace_the_error_of_the_block(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If both the block and the removal of the lock file fail, the error of the block is raised."""
    monkeypatch.setattr(Path, "unlink", _refuse)

    with pytest.raises(KeyError), holding(path, 0):
        raise KeyError

    assert not is_locked(path)


def test_a_lock_is_released_if_close_reports_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `close` reports an error, the lock is released, because Linux has closed the file."""
    close = os.close

    def closed(fd: int) -> None:
        close(fd)
        _refuse()

    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(os, "close", closed)

    assert not is_locked(path)


def test_a_failed_removal_raises_a_storage_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `unlink` cannot remove the lock file, it raises StorageBroken."""
    with try_lock(path) or pytest.fail("refused") as held, monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", _refuse)
        with pytest.raises(StorageBroken):
            held.unlink()


def test_holding_yields_none_if_the_lock_is_held(path: Path) -> None:
    """If the lock is already taken, `holding` yields None and does not remove the lock file."""
    with holding(path, 0) as first, holding(path, 0) as second:
        assert (first is None, second) == (False, None)
        assert path.exists()


def test_a_repository_has_one_writer_at_a_time(tmp_path: Path) -> None:
    """Only one writer at a time can lock a repository; other repositories are not locked.

    After the lock is released, no lock file remains.
    """
    with (
        repository_lock(tmp_path, _NAME, 0) as first,
        repository_lock(tmp_path, _NAME, 0) as second,
        repository_lock(tmp_path, Repository("team/other"), 0) as elsewhere,
    ):
        assert (first, second, elsewhere) == (True, False, True)

    with repository_lock(tmp_path, _NAME, 0) as again:
        assert again
    assert list((tmp_path / layout.WRITE_LOCKS).iterdir()) == []
