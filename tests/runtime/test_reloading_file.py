"""A file that is read again when it changed."""

from __future__ import annotations

import copy
import logging
import os
import threading
from pathlib import Path

import pytest

from entrepot.runtime.reloading_file import ReloadingFile

_WRITTEN = 1_000_000.0


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = _WRITTEN + 100) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Parser:
    """Reads a number, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, content: bytes) -> int:
        """Read one."""
        self.asked += 1
        return int(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that says 1, written long ago."""
    return _write(tmp_path / "file", b"1", at=_WRITTEN)


@pytest.fixture
def clock() -> Clock:
    """Long after the file was written."""
    return Clock()


def _write(path: Path, content: bytes, *, at: float) -> Path:
    path.write_bytes(content)
    os.utime(path, (at, at))
    return path


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_change_is_seen_at_the_next_look(path: Path, clock: Clock) -> None:
    """Within the interval the old value stands; after it, the new one, a generation on."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)

    assert (watched.value, watched.generation) == (1, 1)
    clock.now += 0.5
    assert (watched.value, watched.generation) == (2, 2)


def test_a_file_that_did_not_change_is_not_parsed_again(path: Path, clock: Clock) -> None:
    """However often it is looked at."""
    parser = Parser()
    watched = ReloadingFile(path, parser, clock=clock)

    for _ in range(5):
        clock.now += 1
        assert watched.value == 1

    assert parser.asked == 1


def test_a_look_at_an_old_file_is_a_stat(path: Path, clock: Clock) -> None:
    """It is not opened: a forged time, of the same size, hides a change."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN)
    clock.now += 1

    assert watched.value == 1


def test_the_first_reading_raises(tmp_path: Path, clock: Clock) -> None:
    """There is no last good value at the start."""
    with pytest.raises(FileNotFoundError):
        ReloadingFile(tmp_path / "absent", int, clock=clock)
    with pytest.raises(ValueError, match="invalid literal"):
        ReloadingFile(_write(tmp_path / "bad", b"x", at=_WRITTEN), int, clock=clock)


def test_an_unreadable_change_is_one_warning_and_changes_nothing(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good value stays; the warning names the path and the problem, once."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"one", at=_WRITTEN + 1)

    for _ in range(5):
        clock.now += 1
        assert (watched.value, watched.generation) == (1, 1)

    (warning,) = _warnings(caplog)
    assert vars(warning)["path"] == path
    assert "'one'" in str(vars(warning)["problem"])


def test_processes_that_share_a_watch_complain_once_between_them(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each worker had told of the same bad file; a copy stands for what a fork makes."""
    watched = ReloadingFile(path, int, clock=clock)
    forked = copy.copy(watched)

    for moment, content in enumerate((b"one", b"1", b"one"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert (watched.value, forked.value) == (1, 1)

    assert len(_warnings(caplog)) == 2


def test_only_the_named_errors_are_the_files_fault(path: Path, clock: Clock) -> None:
    """What is not among them is a bug of the parser and is not hidden."""
    watched = ReloadingFile(path, int, clock=clock, errors=(UnicodeError,))
    _write(path, b"one", at=_WRITTEN + 1)
    clock.now += 1

    with pytest.raises(ValueError, match="one"):
        _ = watched.value


def test_a_repaired_file_is_in_force_again(path: Path, clock: Clock) -> None:
    """Also when it says what it said before it broke."""
    watched = ReloadingFile(path, int, clock=clock)
    for moment, content in enumerate((b"one", b"1", b"3"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        _ = watched.value

    assert watched.value == 3


def test_a_file_that_is_gone_is_one_warning_and_its_return_one_note(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Moved away and back, it is the same file: nothing is parsed, but both are said."""
    caplog.set_level(logging.INFO)
    parser = Parser()
    watched = ReloadingFile(path, parser, clock=clock)
    away = path.rename(path.with_name("away"))

    for _ in range(3):
        clock.now += 1
        assert watched.value == 1
    away.rename(path)
    clock.now += 1

    assert watched.value == 1
    assert parser.asked == 1
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("WARNING", "watched file cannot be read, the last good one stays in force"),
        ("INFO", "watched file is back"),
    ]


def test_a_swapped_symlink_is_a_change(tmp_path: Path, clock: Clock) -> None:
    """Kubernetes updates a mounted secret by swapping the directory that a symlink names."""
    for name, content in (("old", b"1"), ("new", b"2")):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "file", content, at=_WRITTEN)
    current = tmp_path / "current"
    current.symlink_to("old")
    watched = ReloadingFile(current / "file", int, clock=clock)

    swap = tmp_path / "swap"
    swap.symlink_to("new")
    swap.replace(current)
    clock.now += 1

    assert watched.value == 2


def test_a_change_in_the_same_tick_is_seen(path: Path, clock: Clock) -> None:
    """Same time, same size, same inode: a file read when it was young is read again."""
    clock.now = _WRITTEN + 0.2
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN)

    clock.now += 0.5
    assert watched.value == 2


def test_a_young_file_that_stays_is_not_a_change(path: Path, clock: Clock) -> None:
    """Reading it again and finding the same is no new generation, and ends with its youth."""
    clock.now = _WRITTEN + 0.2
    parser = Parser()
    watched = ReloadingFile(path, parser, clock=clock)

    for _ in range(10):
        clock.now += 0.5
        assert watched.generation == 1

    assert parser.asked == 1


def test_a_file_that_is_being_written_waits_for_the_next_look(path: Path, clock: Clock) -> None:
    """Half of a password file would lock the other half out."""
    watched = ReloadingFile(path, int, clock=clock)
    clock.now += 1
    _write(path, b"", at=clock.now - 0.01)
    assert watched.value == 1

    _write(path, b"22", at=clock.now)
    clock.now += 0.5
    assert watched.value == 22


def test_a_clock_set_back_does_not_stop_the_looking(path: Path, clock: Clock) -> None:
    """Time may jump; the next question looks."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now -= 50

    assert watched.value == 2


def test_while_one_thread_reads_the_others_go_on(path: Path, clock: Clock) -> None:
    """A slow file system holds one thread; value and generation stay a pair."""
    reading, release = threading.Event(), threading.Event()

    def parse(content: bytes) -> int:
        if content != b"1":
            reading.set()
            assert release.wait(10)
        return int(content)

    watched = ReloadingFile(path, parse, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now += 1
    reader = threading.Thread(target=lambda: watched.value)
    reader.start()
    assert reading.wait(10)

    during = watched.snapshot
    release.set()
    reader.join(10)

    assert (during.value, during.generation) == (1, 1)
    assert (watched.snapshot.value, watched.snapshot.generation) == (2, 2)


# ---- what is kept for a process that begins while the file is bad


def test_a_process_that_begins_while_the_file_is_bad_has_the_last_good_content(
    path: Path, clock: Clock
) -> None:
    """What was taken away since the first start is not there again; a repair is seen."""
    kept = path.with_name("kept")
    before = ReloadingFile(path, int, clock=clock, last_good=kept)
    for moment, content in enumerate((b"2", b"two"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert before.value == 2

    after = ReloadingFile(path, int, clock=clock, last_good=kept)

    assert after.value == 2
    _write(path, b"3", at=_WRITTEN + 3)
    clock.now += 1
    assert after.value == 3


@pytest.mark.parametrize("broken", [b"two", None], ids=["bad", "gone"])
def test_a_forked_process_does_not_go_back_to_what_its_parent_had(
    path: Path, clock: Clock, broken: bytes | None
) -> None:
    """The parent has not looked since the start; its children have."""
    parent = ReloadingFile(path, int, clock=clock, last_good=path.with_name("kept"))
    child = copy.copy(parent)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now += 1
    assert child.value == 2
    if broken is None:
        path.unlink()
    else:
        _write(path, broken, at=_WRITTEN + 2)

    clock.now += 1

    assert copy.copy(parent).value == 2


def test_a_forked_process_has_what_others_took_although_the_file_is_as_its_parent_saw_it(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back was refused by all who had gone on: rules taken out gave every right back."""

    def judge(before: int, after: int) -> None:
        if after < before:
            raise ValueError("less than before")

    parent = ReloadingFile(path, int, clock=clock, last_good=path.with_name("kept"), validate=judge)
    child = copy.copy(parent)
    for moment, content in enumerate((b"2", b"1"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert child.value == 2

    monkeypatch.setattr("os.getpid", lambda: 0)
    clock.now += 1

    assert copy.copy(parent).value == 2


def test_what_is_kept_is_for_our_eyes_only(path: Path, clock: Clock) -> None:
    """There may be passwords in it."""
    kept = path.with_name("kept")
    ReloadingFile(path, int, clock=clock, last_good=kept)

    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (b"1", 0o600)


def test_what_cannot_be_kept_is_not_left_to_grow_old(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: better no copy than one that gives a right back."""
    kept = path.with_name("kept")
    watched = ReloadingFile(path, int, clock=clock, last_good=kept)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now += 1

    assert watched.value == 2
    assert not kept.exists()


def test_a_change_may_be_refused_for_what_stood_before(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is as bad as one that cannot be read."""

    def judge(before: int, after: int) -> None:
        if after < before:
            raise ValueError("less than before")

    watched = ReloadingFile(path, int, clock=clock, validate=judge)
    for moment, content in enumerate((b"3", b"2", b"4"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert watched.value == (4 if content == b"4" else 3)

    (warning,) = _warnings(caplog)
    assert "less than before" in str(vars(warning)["problem"])


def test_whoever_heard_of_a_change_need_not_wait_for_the_next_look(
    path: Path, clock: Clock
) -> None:
    """Another process saw it: this one looks at once."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)
    assert watched.value == 1

    watched.refresh()
    assert watched.value == 2
