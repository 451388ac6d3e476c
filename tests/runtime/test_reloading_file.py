"""Tests of `ReloadingFile`, which reads a file again after the file has changed."""

from __future__ import annotations

import copy
import io
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from entrepot.runtime.reloading_file import ReloadingFile
from tests.processes import run

_WRITTEN = 1_000_000.0


class Clock:
    """A clock whose time (in seconds) the test sets."""

    def __init__(self, now: float = _WRITTEN + 100) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time that the test has set."""
        return self.now


class Parser:
    """A parser of a number; `calls` counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, content: bytes) -> int:
        """Return the number in *content*, and count the call."""
        self.calls += 1
        return int(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with the content 1, which was written long ago."""
    return _write(tmp_path / "file", b"1", at=_WRITTEN)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that is 100 s ahead of the file's time."""
    return Clock()


def _write(path: Path, content: bytes, *, at: float) -> Path:
    path.write_bytes(content)
    os.utime(path, (at, at))
    return path


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_change_is_seen_at_the_next_check(path: Path, clock: Clock) -> None:
    """If the file changes, the next check reads the new value and raises the generation."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)

    assert (watched.value, watched.generation) == (1, 1)
    clock.now += 0.5
    assert (watched.value, watched.generation) == (2, 2)


def test_an_unchanged_file_is_not_parsed_again(path: Path, clock: Clock) -> None:
    """If the file does not change, it is parsed once, however often its value is used."""
    parser = Parser()
    watched = ReloadingFile(path, parser, clock=clock)

    for _ in range(5):
        clock.now += 1
        assert watched.value == 1

    assert parser.calls == 1


def test_a_check_of_an_old_file_is_a_stat(path: Path, clock: Clock) -> None:
    """A check of an old file compares only its size and times, because a read costs more.

    So a change that keeps the size and the times is not noticed.
    """
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN)
    clock.now += 1

    assert watched.value == 1


def test_the_first_read_raises(tmp_path: Path, clock: Clock) -> None:
    """If the first read of a file fails, the error is raised, because there is no earlier value."""
    with pytest.raises(FileNotFoundError):
        ReloadingFile(tmp_path / "absent", int, clock=clock)
    with pytest.raises(ValueError, match="invalid literal"):
        ReloadingFile(_write(tmp_path / "bad", b"x", at=_WRITTEN), int, clock=clock)


def test_a_malformed_change_is_logged_once_and_changes_nothing(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file becomes malformed, one warning is logged and the last good value remains."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"one", at=_WRITTEN + 1)

    for _ in range(5):
        clock.now += 1
        assert (watched.value, watched.generation) == (1, 1)

    (warning,) = _warnings(caplog)
    assert vars(warning)["path"] == path
    assert "'one'" in str(vars(warning)["problem"])


def test_forked_processes_log_one_warning_together(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If a file becomes invalid, only one of several forked processes logs a warning."""
    watched = ReloadingFile(path, int, clock=clock)
    forked = copy.copy(watched)

    for moment, content in enumerate((b"one", b"1", b"one"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert (watched.value, forked.value) == (1, 1)

    assert len(_warnings(caplog)) == 2


def test_other_errors_of_the_parser_are_raised(path: Path, clock: Clock) -> None:
    """A parser's error that `errors` does not list is a defect and is raised."""
    watched = ReloadingFile(path, int, clock=clock, errors=(UnicodeError,))
    _write(path, b"one", at=_WRITTEN + 1)
    clock.now += 1

    with pytest.raises(ValueError, match="one"):
        _ = watched.value


def test_a_repaired_file_is_in_force_again(path: Path, clock: Clock) -> None:
    """If an invalid file is repaired with the earlier value, later changes are still read."""
    watched = ReloadingFile(path, int, clock=clock)
    for moment, content in enumerate((b"one", b"1", b"3"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        _ = watched.value

    assert watched.value == 3


def test_a_missing_file_and_its_return_are_each_logged_once(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The disappearance and the return of the file are each logged once.

    A file that was only moved away and back is not parsed again.
    """
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
    assert parser.calls == 1
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert logged == [
        ("WARNING", "the watched file cannot be read, the last good content stays in force"),
        ("INFO", "the watched file can be read again"),
    ]


def test_a_swapped_symlink_is_a_change(tmp_path: Path, clock: Clock) -> None:
    """If a symbolic link in the file's path is replaced, the new file is read.

    Kubernetes updates Secrets in this way.
    """
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
    """If a file was written just before it was read, the next check reads it again.

    A later write in the same tick of the kernel's clock would have the same time.
    """
    clock.now = _WRITTEN + 0.2
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN)

    clock.now += 0.5
    assert watched.value == 2


def test_a_recent_file_with_the_same_content_is_not_a_change(path: Path, clock: Clock) -> None:
    """If a recent file is read again with the same content, the generation does not change."""
    clock.now = _WRITTEN + 0.2
    parser = Parser()
    watched = ReloadingFile(path, parser, clock=clock)

    for _ in range(10):
        clock.now += 0.5
        assert watched.generation == 1

    assert parser.calls == 1


def test_a_file_that_is_being_written_is_read_at_the_next_check(path: Path, clock: Clock) -> None:
    """If a file is incomplete during a check, the next check reads the complete file."""
    watched = ReloadingFile(path, int, clock=clock)
    clock.now += 1
    _write(path, b"", at=clock.now - 0.01)
    assert watched.value == 1

    _write(path, b"22", at=clock.now)
    clock.now += 0.5
    assert watched.value == 22


@pytest.mark.parametrize("moment", ["before it is open", "before it is read"])
def test_a_file_that_is_written_during_the_check_is_read_at_the_next_check(
    path: Path, clock: Clock, moment: str
) -> None:
    """If a file is truncated during a check, the next check reads it again."""
    truncations = iter([b""])

    def truncate() -> None:
        for content in truncations:
            _write(path, content, at=clock.now)

    class Late(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            truncate()
            return super().read(-1 if size is None else size)

    def opened(path: Path) -> Any:
        if path.read_bytes() == b"2" and moment == "before it is open":
            truncate()
        return Late(path) if path.read_bytes() == b"2" else path.open("rb")

    watched = ReloadingFile(path, lambda content: content, clock=clock, open_file=opened)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now += 1

    assert watched.value == b"1"
    _write(path, b"3", at=clock.now)
    clock.now += 1
    assert watched.value == b"3"


def test_a_clock_set_back_does_not_stop_the_checks(path: Path, clock: Clock) -> None:
    """If the clock is set back, the checks continue although the last check is in the future."""
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now -= 50

    assert watched.value == 2


def test_other_threads_do_not_wait_for_a_slow_read(path: Path, clock: Clock) -> None:
    """While one thread reads a slow file, other threads use the old value.

    They also get the generation of the old value.
    """
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


# ---- tests of the saved last good content of a file


def test_a_process_started_while_the_file_is_bad_has_the_last_good_content(
    path: Path, clock: Clock
) -> None:
    """If a process starts while the file is invalid, it uses the saved last good content."""
    saved = path.with_name("saved")
    before = ReloadingFile(path, int, clock=clock, last_good=saved)
    for moment, content in enumerate((b"2", b"two"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert before.value == 2

    after = ReloadingFile(path, int, clock=clock, last_good=saved)

    assert after.value == 2
    _write(path, b"3", at=_WRITTEN + 3)
    clock.now += 1
    assert after.value == 3


@pytest.mark.parametrize("broken", [b"two", None], ids=["bad", "gone"])
def test_a_forked_process_does_not_use_its_parents_older_value(
    path: Path, clock: Clock, broken: bytes | None
) -> None:
    """A forked process uses the saved content if this is newer than the value of the parent.

    The parent does not check the file after its start. Other children of the parent check the file
    and save the content.
    """
    parent = ReloadingFile(path, int, clock=clock, last_good=path.with_name("saved"))
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


def test_a_forked_process_takes_the_value_that_other_processes_accepted(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process uses the value that other processes have accepted and saved.

    In this test the file has the same content as when the parent read it, but the other processes
    have rejected this content.
    """

    def validate(before: int, after: int) -> None:
        if after < before:
            raise ValueError("less than before")

    parent = ReloadingFile(
        path, int, clock=clock, last_good=path.with_name("saved"), validate=validate
    )
    child = copy.copy(parent)
    for moment, content in enumerate((b"2", b"1"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert child.value == 2

    monkeypatch.setattr("os.getpid", lambda: 0)
    clock.now += 1

    assert copy.copy(parent).value == 2


def test_the_saved_content_is_readable_by_its_owner_only(path: Path, clock: Clock) -> None:
    """Only the owner can read the file with the saved content, which can have password hashes."""
    saved = path.with_name("saved")
    ReloadingFile(path, int, clock=clock, last_good=saved)

    assert (saved.read_bytes(), saved.stat().st_mode & 0o777) == (b"1", 0o600)


def test_an_outdated_saved_content_is_removed_if_it_cannot_be_replaced(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the saved content cannot be replaced, as on a full disk, it is deleted.

    Otherwise a process that starts while the file is invalid would use older content.
    """
    saved = path.with_name("saved")
    watched = ReloadingFile(path, int, clock=clock, last_good=saved)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    _write(path, b"2", at=_WRITTEN + 1)
    clock.now += 1

    assert watched.value == 2
    assert not saved.exists()


def test_a_change_may_be_rejected_by_validate(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the function `validate` rejects a change, the file is treated as malformed."""

    def validate(before: int, after: int) -> None:
        if after < before:
            raise ValueError("less than before")

    watched = ReloadingFile(path, int, clock=clock, validate=validate)
    for moment, content in enumerate((b"3", b"2", b"4"), 1):
        _write(path, content, at=_WRITTEN + moment)
        clock.now += 1
        assert watched.value == (4 if content == b"4" else 3)

    (warning,) = _warnings(caplog)
    assert "less than before" in str(vars(warning)["problem"])


def test_refresh_checks_the_file_at_once(path: Path, clock: Clock) -> None:
    """`refresh` checks the file at once, even if the next check is not due yet.

    A process calls `refresh` when another process has noticed a change of the file.
    """
    watched = ReloadingFile(path, int, clock=clock)
    _write(path, b"2", at=_WRITTEN + 1)
    assert watched.value == 1

    watched.refresh()
    assert watched.value == 2


def test_refresh_takes_the_value_that_another_process_accepted(path: Path, clock: Clock) -> None:
    """`refresh` uses the value that another process has saved, even if the file was just written.

    Otherwise one worker would reject an old password that another worker still accepts.
    """
    saved = path.with_name("saved")
    first, second = (ReloadingFile(path, int, clock=clock, last_good=saved) for _ in range(2))
    _write(path, b"2", at=_WRITTEN + 1)
    first.refresh()
    _write(path, b"no number", at=clock.now)

    second.refresh()
    assert (first.value, second.value) == (2, 2)


_RACE = """
import os, time
from entrepot.runtime.reloading_file import _LastWarning

class Slow:
    def __init__(self, memory):
        self.memory = memory

    def __getitem__(self, part):
        found = self.memory[part]
        time.sleep(0.1)  # the other processes read meanwhile
        return found

    def __setitem__(self, part, value):
        self.memory[part] = value

warning = _LastWarning()
warning._shared = Slow(warning._shared)
result, answer = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.write(answer, b"%d" % warning.is_new(b"1" * 32))
        os._exit(0)
for _ in range(4):
    os.wait()
print(bytes(sorted(os.read(result, 4))).decode())
"""


def test_of_processes_that_find_a_bad_version_at_the_same_instant_one_logs_it() -> None:
    """If forked processes notice an invalid file at the same instant, exactly one logs it.

    They check the file at the same time, because they inherit the time of the last check.
    """
    assert run(_RACE) == "0001\n"
