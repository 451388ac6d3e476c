"""Test the run directory, and the file `run`, which contains the path of the run directory."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance import rundir
from entrepot.config.errors import ConfigError
from entrepot.datastore.errors import StorageFull
from entrepot.runtime import run_names


@pytest.fixture(autouse=True)
def temporary(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Create a temporary folder in which this test has its run directories."""
    tmp_path_factory.getbasetemp()  # pytest creates its own folder first
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_the_run_directory_is_private_and_removed_afterwards(tmp_path: Path) -> None:
    """The run directory is private, and is removed when the appliance stops.

    While the appliance runs, a file in the state directory has the path of the run directory.
    """
    with rundir.create(tmp_path) as run:
        (run / "socket").touch()

        assert run.stat().st_mode & 0o777 == 0o700
        assert rundir.find(tmp_path) == run
    assert rundir.find(tmp_path) is None
    assert not run.exists()
    assert not list(tmp_path.iterdir())


def test_a_file_that_appears_during_the_removal_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `status` makes a file while `serve` removes the run directory, the file is removed too."""
    remove = shutil.rmtree
    left = ["request"]

    def slow(folder: Path, *, ignore_errors: bool) -> None:
        remove(folder, ignore_errors=ignore_errors)
        if left:
            folder.mkdir()
            (folder / left.pop()).touch()

    with monkeypatch.context() as patched, rundir.create(tmp_path) as run:
        patched.setattr(shutil, "rmtree", slow)

    assert left == []
    assert not run.exists()


def test_a_data_directory_has_one_appliance(tmp_path: Path) -> None:
    """A second appliance on a data directory is refused, without an effect on the first."""
    with rundir.create(tmp_path) as run:
        with pytest.raises(ConfigError, match="another appliance"), rundir.create(tmp_path):
            pass

        assert rundir.find(tmp_path) == run


def test_the_run_directory_of_a_killed_appliance_is_removed(
    tmp_path: Path, temporary: Path
) -> None:
    """A start removes the run directory of a killed appliance.

    The state directory still has the path of that run directory, on which no process holds a lock.
    """
    left = temporary / "entrepot-old"
    left.mkdir()
    (tmp_path / "run").write_text(str(left))

    assert rundir.find(tmp_path) is None
    with rundir.create(tmp_path):
        assert not left.exists()


def test_a_noted_folder_without_the_prefix_is_not_removed(tmp_path: Path, temporary: Path) -> None:
    """A start removes only a folder whose name has the prefix of run directories.

    The path is read from the file `run`, which may contain any path.
    """
    precious = temporary / "precious"
    precious.mkdir()
    (tmp_path / "run").write_text(str(precious))
    with rundir.create(tmp_path):
        assert precious.exists()


def test_temporary_file_cleaners_skip_the_run_directory(tmp_path: Path) -> None:
    """Systemd-tmpfiles skips the run directory, because it cannot lock the folder."""
    with rundir.create(tmp_path) as run:
        folder = os.open(run, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)


def _left(folder: Path) -> Path:
    """Create a run directory like that of a killed appliance."""
    folder.mkdir()
    (folder / run_names.SETTINGS).touch()
    return folder


def test_run_directories_of_killed_appliances_are_removed(tmp_path: Path, temporary: Path) -> None:
    """A start removes the run directories of killed appliances of any data directory."""
    left = [_left(temporary / f"entrepot-{number:08}") for number in range(3)]

    with rundir.create(tmp_path):
        assert not any(each.exists() for each in left)


def test_run_directories_locked_by_a_process_stay(tmp_path: Path, temporary: Path) -> None:
    """A run directory that a process has locked stays."""
    held = _left(temporary / "entrepot-abcdefgh")
    claim = os.open(held, os.O_RDONLY)
    fcntl.flock(claim, fcntl.LOCK_SH)
    with rundir.create(tmp_path):
        assert held.exists()
    os.close(claim)


def test_folders_of_the_operator_stay(tmp_path: Path, temporary: Path) -> None:
    """A start removes no folder of the operator, whatever its name is, and follows no link."""
    for name in ("entrepot-registry", "entrepot-backup-1", "entrepot-files"):
        (temporary / name).mkdir()
        (temporary / name / "precious").touch()
    _left(temporary / "entrepot-data-dir")
    precious = _left(tmp_path / "precious")
    (temporary / "entrepot-12345678").symlink_to(precious)
    (tmp_path / "state").mkdir()
    before = sorted(temporary.rglob("*"))

    with rundir.create(tmp_path / "state"):
        pass

    assert sorted(temporary.rglob("*")) == before
    assert (precious / run_names.SETTINGS).exists()


def test_a_folder_removed_as_abandoned_is_created_again(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another start removes a new run directory before the lock, `create` makes a second one."""
    flock = fcntl.flock
    removed: list[Path] = []

    def remove_first(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH and not removed:
            removed.extend(temporary.glob("entrepot-*"))
            for each in removed:
                each.rmdir()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with rundir.create(tmp_path) as run:
        assert run.is_dir()
        assert run not in removed
    assert removed


def test_a_second_appliance_is_refused_before_any_file_changes(tmp_path: Path) -> None:
    """A second appliance is refused before it changes any file or file time of the first."""
    rundir.refuse_second(tmp_path)
    with rundir.create(tmp_path):
        before = {each: each.stat().st_mtime_ns for each in (tmp_path, *tmp_path.rglob("*"))}
        with pytest.raises(ConfigError, match="another appliance uses this data directory"):
            rundir.refuse_second(tmp_path)

        after = {each: each.stat().st_mtime_ns for each in (tmp_path, *tmp_path.rglob("*"))}
    assert after == before


def test_a_missing_temporary_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no run directory can be created, the error names the temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(ConfigError, match="temporary folder: no folder can be created"):
        rundir.fresh("entrepot-")


def test_an_unwritable_state_directory_still_has_one_appliance_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second appliance is refused even if the state directory cannot be written to.

    In that case the first appliance locks the state directory itself instead of a file in it, and
    commands search the temporary folder for the run directory.
    """

    def refuse(path: Path) -> None:
        raise StorageFull(str(path))

    monkeypatch.setattr(rundir, "try_lock", refuse)
    with rundir.create(tmp_path) as run:
        settings = {"storage": {"statedir": str(tmp_path)}}
        (run / run_names.SETTINGS).write_text(json.dumps(settings))

        assert rundir.find(tmp_path) == run
        with pytest.raises(ConfigError, match="another appliance"), rundir.create(tmp_path):
            pass
        with pytest.raises(ConfigError, match="another appliance"):
            rundir.refuse_second(tmp_path)
    assert rundir.find(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another account")
def test_a_folder_of_another_account_is_no_run_directory(tmp_path: Path, temporary: Path) -> None:
    """A folder of another account is no run directory, even with matching settings.

    Any account can create a folder in the temporary folder, where run directories are.
    """
    foreign = temporary / "entrepot-aaaaaaaa"
    foreign.mkdir()
    settings = {"storage": {"statedir": str(tmp_path)}}
    (foreign / run_names.SETTINGS).write_text(json.dumps(settings))
    os.chown(foreign, 65534, 65534)
    state = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(state, fcntl.LOCK_EX)

        assert rundir.find(tmp_path) is None
    finally:
        os.close(state)
