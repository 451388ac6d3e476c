"""The run directory, and the file that leads to it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import rundir
from config.errors import ConfigError


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have run directories made in a folder of this test's own."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_is_private_found_by_others_and_gone_afterwards(tmp_path: Path) -> None:
    """The state directory names it while the appliance lives."""
    with rundir.made(tmp_path) as run:
        (run / "socket").touch()

        assert run.stat().st_mode & 0o777 == 0o700
        assert rundir.found(tmp_path) == run
    assert rundir.found(tmp_path) is None
    assert not run.exists()
    assert not list(tmp_path.iterdir())


def test_a_data_directory_has_one_appliance(tmp_path: Path) -> None:
    """The second one is told so; the first is not disturbed."""
    with rundir.made(tmp_path) as run:
        with pytest.raises(ConfigError, match="another appliance"), rundir.made(tmp_path):
            pass

        assert rundir.found(tmp_path) == run


def test_what_a_killed_appliance_left_is_removed(tmp_path: Path, temporary: Path) -> None:
    """Its name is in the state directory still, but nobody holds the lock."""
    left = temporary / "entrepot-old"
    left.mkdir()
    (tmp_path / "run").write_text(str(left))

    assert rundir.found(tmp_path) is None
    with rundir.made(tmp_path):
        assert not left.exists()


def test_nothing_else_is_ever_removed(tmp_path: Path, temporary: Path) -> None:
    """A file that says something else is not believed."""
    precious = temporary / "precious"
    precious.mkdir()
    (tmp_path / "run").write_text(str(precious))
    with rundir.made(tmp_path):
        assert precious.exists()


def test_whoever_tidies_up_passes_it_by(tmp_path: Path) -> None:
    """systemd-tmpfiles tries to lock a folder before it removes what is old in it."""
    with rundir.made(tmp_path) as run:
        folder = os.open(run, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
