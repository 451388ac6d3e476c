"""Locks between processes and threads."""

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
print("gained" if held else "refused")
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path whose folder is not there yet."""
    return tmp_path / "spool" / "file"


def test_a_lock_makes_its_file_and_its_folder(path: Path) -> None:
    """The first download of a new data directory needs no preparation."""
    with try_lock(path) or pytest.fail("refused") as held:
        assert path.exists()
        assert os.path.samestat(os.fstat(held.fd), path.stat())


def test_two_opens_in_one_process_exclude_each_other(path: Path) -> None:
    """Threads of a worker are as good as strangers."""
    first = try_lock(path)

    assert first is not None
    assert try_lock(path) is None
    first.close()
    second = try_lock(path)
    assert second is not None
    second.close()


def test_a_lock_of_another_process_excludes_and_ends_with_it(path: Path) -> None:
    """To ask whether the writer lives is to try to take its place; kill -9 frees it."""
    with running(_HOLD, path) as process:
        assert next_line(process) == "gained"

        assert (try_lock(path), is_locked(path)) == (None, True)
        process.kill()
        process.wait()

        assert is_locked(path) is False
        with try_lock(path) or pytest.fail("refused"):
            pass


def test_our_lock_excludes_another_process(path: Path) -> None:
    """Seen from the other side."""
    with try_lock(path) or pytest.fail("refused"), running(_HOLD, path) as process:
        assert next_line(process) == "refused"


def test_a_locked_file_keeps_its_content(path: Path) -> None:
    """A download that is taken over goes on where it ended."""
    path.parent.mkdir()
    path.write_bytes(b"so far")

    with try_lock(path) or pytest.fail("refused") as held:
        os.pwrite(held.fd, b"!", 6)

    assert path.read_bytes() == b"so far!"


def test_a_lock_that_was_gained_on_a_file_that_has_moved_on_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our open and our lock its holder may have renamed the file into the blobs."""
    flock = fcntl.flock
    moves = iter([path.with_name("adopted")])

    def move_on_first(descriptor: int, operation: int) -> None:
        for target in moves:
            path.rename(target)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", move_on_first)

    with try_lock(path) or pytest.fail("refused") as held:
        assert os.path.samestat(os.fstat(held.fd), path.stat())
        assert not os.path.samestat(os.fstat(held.fd), path.with_name("adopted").stat())


def test_a_file_that_is_unlinked_by_its_holder_is_gone(path: Path) -> None:
    """The next lock is on a new file."""
    with try_lock(path) or pytest.fail("refused") as held:
        held.unlink()

        assert not path.exists()
        with try_lock(path) or pytest.fail("refused"):
            pass


def test_unlinking_leaves_what_others_have_put_there_since(path: Path) -> None:
    """The holder's own file was adopted; the path is the next download's."""
    with try_lock(path) or pytest.fail("refused") as held:
        path.rename(path.with_name("adopted"))
        path.write_bytes(b"the next one's")

        held.unlink()

    assert path.read_bytes() == b"the next one's"


def test_unlinking_what_is_gone_is_fine(path: Path) -> None:
    """The verb may be repeated."""
    with try_lock(path) or pytest.fail("refused") as held:
        held.unlink()
        held.unlink()


def test_closing_twice_closes_nobody_elses_file(path: Path, tmp_path: Path) -> None:
    """A descriptor's number is given to the next one that opens."""
    held = try_lock(path)
    assert held is not None
    held.close()

    with (tmp_path / "other").open("wb") as other:
        held.close()

        assert os.fstat(other.fileno())


def test_waiting_ends_when_the_lock_is_free(path: Path) -> None:
    """Whoever waits gets it from whoever had it."""
    first = try_lock(path)
    assert first is not None
    gained = threading.Event()

    def wait() -> None:
        with lock(path, math.inf) or pytest.fail("no patience"):
            gained.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not gained.is_set()
    first.close()
    waiter.join(timeout=10)

    assert gained.is_set()


def test_waiting_ends_with_the_patience(path: Path) -> None:
    """A dead lock costs its waiter no more than it gave."""
    with try_lock(path) or pytest.fail("refused"):
        assert lock(path, 0.02) is None


def test_asking_leaves_no_file_and_no_lock(path: Path) -> None:
    """A question changes nothing."""
    assert is_locked(path) is False
    assert not path.exists()

    with try_lock(path) or pytest.fail("refused") as held:
        held.close()
        assert is_locked(path) is False
        assert is_locked(path) is False


def test_what_must_be_there_is_not_made_by_its_lock(path: Path) -> None:
    """An upload that has ended is not begun anew by who comes late."""
    with pytest.raises(NotFound):
        try_lock_present(path)
    assert not path.exists()

    with try_lock(path) or pytest.fail("refused"):
        assert try_lock_present(path) is None
    with try_lock_present(path) or pytest.fail("refused"):
        assert try_lock(path) is None


def test_a_file_system_without_locks_is_broken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOLCK is neither held nor free."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StorageBroken, match="no locks"):
        try_lock(path)


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_lock_is_released_although_its_file_cannot_be_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails for a moment must not leave a lock that its process holds for ever."""
    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(Path, "unlink", _refuse)

    assert path.exists()
    with holding(path, 0) as again:
        assert again
    assert not path.exists()


def test_a_lock_is_released_although_it_cannot_be_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the removal is a system call too."""
    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(os, "fstat", _refuse)

    assert not is_locked(path)


def test_what_the_block_raises_is_what_comes_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed removal does not replace the error that ended the block."""
    monkeypatch.setattr(Path, "unlink", _refuse)

    with pytest.raises(KeyError), holding(path, 0):
        raise KeyError

    assert not is_locked(path)


def test_an_error_of_close_releases_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux has closed the file when close(2) reports an error."""
    close = os.close

    def closed(fd: int) -> None:
        close(fd)
        _refuse()

    with monkeypatch.context() as broken, holding(path, 0) as held:
        assert held
        broken.setattr(os, "close", closed)

    assert not is_locked(path)


def test_a_removal_that_the_disk_refuses_is_a_storage_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers know the datastore's errors, not the disk's."""
    with try_lock(path) or pytest.fail("refused") as held, monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", _refuse)
        with pytest.raises(StorageBroken):
            held.unlink()


def test_a_lock_that_is_held_elsewhere_is_not_yielded(path: Path) -> None:
    """The block learns that it does not hold the lock, and leaves the holder's file alone."""
    with holding(path, 0) as first, holding(path, 0) as second:
        assert (first is None, second) == (False, None)
        assert path.exists()


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    """Another repository's writers are not in the way; nothing stays behind."""
    with (
        repository_lock(tmp_path, _NAME, 0) as first,
        repository_lock(tmp_path, _NAME, 0) as second,
        repository_lock(tmp_path, Repository("team/other"), 0) as elsewhere,
    ):
        assert (first, second, elsewhere) == (True, False, True)

    with repository_lock(tmp_path, _NAME, 0) as again:
        assert again
    assert list((tmp_path / layout.WRITING).iterdir()) == []
