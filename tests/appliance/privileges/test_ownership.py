"""Test `take_over`, which gives the data directory to the service user, and folder modes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from entrepot.appliance.privileges import ownership
from entrepot.appliance.privileges.ownership import OwnershipChange, is_owned, take_over
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError
from tests.config.config_folder import ConfigFolder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

USER = User("somebody", 12345, 23456, "/")
BLOB = "docker/registry/v2/blobs/sha256/aa/aabb/data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Create a data directory with files of registry:2 and a state directory of the appliance."""
    folder = tmp_path / "data"
    for name in (BLOB, "docker/registry/v2/repositories/a/_layers/sha256/aabb/link"):
        _write(folder / name)
    _write(folder / "entrepot/log/access.log")
    return folder


@pytest.fixture
def config_folder(tmp_path: Path) -> ConfigFolder:
    """Return a folder for settings."""
    return ConfigFolder(tmp_path)


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def _owners(folder: Path) -> set[int]:
    return {each.lstat().st_uid for each in (folder, *folder.rglob("*"))}


@as_root
def test_everything_is_given_and_counted(data: Path) -> None:
    """All folders, files and links get the service user as owner; group and mode stay."""
    (data / "file").write_text("")
    (data / "file").chmod(0o640)
    os.chown(data / "file", 0, 777)
    files = len([data, *data.rglob("*")])

    assert OwnershipChange(files) == take_over(data, USER)
    assert _owners(data) == {12345}
    status = (data / "file").stat()
    assert (status.st_gid, status.st_mode & 0o777) == (777, 0o640)


@as_root
def test_a_link_is_given_but_not_its_target(data: Path, tmp_path: Path) -> None:
    """A link gets the service user as owner, but the link's target does not."""
    file, folder = _write(tmp_path / "file"), tmp_path / "folder"
    _write(folder / "inside")
    (data / "docker/link").symlink_to(file)
    (data / "docker/folder").symlink_to(folder)

    take_over(data, USER)

    assert (data / "docker/link").lstat().st_uid == 12345
    assert _owners(folder) == {0}
    assert file.stat().st_uid == 0


@as_root
def test_later_starts_check_only_entries_near_the_top(data: Path) -> None:
    """Later starts check only entries near the top of the tree: a full walk takes too long."""
    take_over(data, USER)
    os.chown(data / BLOB, 0, 0)

    assert OwnershipChange() == take_over(data, USER)
    assert (data / BLOB).stat().st_uid == 0


@as_root
@pytest.mark.parametrize(
    "name",
    ["", "entrepot/log/access.log", "docker/registry/v2/blobs/sha256/aa", "entrepot", "new"],
)
def test_an_entry_of_root_near_the_top_starts_a_full_walk(data: Path, name: str) -> None:
    """If root owns an entry near the top of the tree, all files get the service user as owner.

    Such an entry is, for example, the state directory, a log, or a new file.
    """
    take_over(data, USER)
    _write(data / "new")
    os.chown(data / "new", 12345, 0)
    assert is_owned(data, USER)

    os.chown(data / name, 0, 0)
    os.chown(data / BLOB, 0, 0)

    assert OwnershipChange(2) == take_over(data, USER)
    assert _owners(data) == {12345}


@as_root
def test_an_interrupted_walk_is_repeated(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted change of owners is repeated at the next start.

    The top folder changes its owner last, so its owner shows whether the walk is complete.
    """
    given: list[object] = []
    chown = os.chown

    def chown_two(path: str, *ids: int, **where: object) -> None:
        if len(given) == 2:
            raise KeyboardInterrupt
        given.append(path)
        chown(path, *ids, **where)  # type: ignore[arg-type]  # passed on unchanged

    with monkeypatch.context() as patch:
        patch.setattr(os, "chown", chown_two)
        with pytest.raises(KeyboardInterrupt):
            take_over(data, USER)

    assert not is_owned(data, USER)
    take_over(data, USER)
    assert _owners(data) == {12345}


@as_root
def test_files_whose_owner_cannot_change_are_counted_and_skipped(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files whose owner cannot change are counted and skipped.

    Root cannot change owners on a read-only file system or on some network file systems. The
    service user may nevertheless have access to these files.
    """

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)

    assert OwnershipChange(0, len([data, *data.rglob("*")])) == take_over(data, USER)


@as_root
def test_a_folder_behind_a_link_is_given(data: Path, tmp_path: Path) -> None:
    """If REGISTRYDIR is a link, the folder behind the link gets the service user as owner."""
    link = tmp_path / "link"
    link.symlink_to(data)

    take_over(link, USER)

    assert _owners(data) == {12345}


def test_missing_folders_are_created(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """Missing folders of the appliance are created; existing folders stay as they are."""
    settings = config_folder.settings(REGISTRYDIR=str(tmp_path / "a/b"))

    ownership.make_folders(settings)
    ownership.make_folders(settings)

    assert (tmp_path / "a/b/entrepot/log").is_dir()
    for each in ("a/b", "a/b/entrepot", "a/b/entrepot/log"):
        assert (tmp_path / each).stat().st_mode & 0o007 == 0


def test_an_existing_folder_keeps_its_mode(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """`make_folders` does not change the mode of an existing folder: other programs may read it."""
    tmp_path.chmod(0o755)
    ownership.make_folders(config_folder.settings(REGISTRYDIR=str(tmp_path)))

    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("before", "after"), [(0o755, 0o750), (0o775, 0o775), (0o751, 0o751), (0o700, 0o700)]
)
def test_a_folder_with_the_old_mode_is_closed_to_other_accounts(
    config_folder: ConfigFolder, tmp_path: Path, before: int, after: int
) -> None:
    """A data directory with the mode that version 0.1.0 set is closed to other accounts.

    If the data directory has another mode, the operator has chosen that mode, and it stays.
    """
    settings = config_folder.settings(REGISTRYDIR=str(tmp_path / "data"))
    ownership.make_folders(settings)
    folders = (settings.storage.rootdirectory, settings.storage.statedir)
    for each in folders:
        each.chmod(before)

    ownership.close_to_others(settings)

    assert [each.stat().st_mode & 0o777 for each in folders] == [after, after]


def test_a_folder_behind_a_link_keeps_its_mode(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """A data directory behind a symbolic link keeps its mode: the target may belong to any user."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other").chmod(0o755)
    (tmp_path / "data").symlink_to(tmp_path / "other")

    ownership.close_to_others(config_folder.settings(REGISTRYDIR=str(tmp_path / "data")))

    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o755


def test_a_folder_of_another_user_keeps_its_mode(
    config_folder: ConfigFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data directory that another user owns keeps its mode."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    ownership.close_to_others(config_folder.settings(REGISTRYDIR=str(tmp_path)))

    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_mode_that_cannot_be_changed_is_logged(
    config_folder: ConfigFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the data directory's mode cannot be changed, this is logged, and no error is raised."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "fchmod", refuse)
    ownership.close_to_others(config_folder.settings(REGISTRYDIR=str(tmp_path)))

    assert "the folder stays readable for all accounts" in [each.message for each in caplog.records]


def test_a_folder_that_cannot_be_created_is_reported(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """A folder that cannot be created is reported with its path and a remedy."""
    (tmp_path / "file").write_text("")

    with pytest.raises(
        ConfigError, match=r"file/data: the folder cannot be created: not a directory; make its"
    ):
        ownership.make_folders(config_folder.settings(REGISTRYDIR=str(tmp_path / "file/data")))
