"""Tests that `serve` copies a changed file of root again, so that the service user can read it.

The file may be changed in place, by a rename, or by a new symbolic link.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.privileges import secret_copies, separation
from entrepot.appliance.privileges.copied_files import SecretCopies
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError
from tests.appliance.haproxy import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a group away")

USER = User("somebody", 12345, 23456, "/")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a temporary folder of this test for the copies of secrets."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Create a file that only root can read."""
    path = tmp_path / "mounted" / "secret.json"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o600)
    return path


@pytest.fixture
def copied(secret: Path) -> Iterator[SecretCopies]:
    """Copy the secret for the service user."""
    with secret_copies.create([secret], USER) as made:
        yield made


def test_a_copy_is_readable_by_the_users_group_and_writable_by_root_only(
    secret: Path, copied: SecretCopies
) -> None:
    """The service user's group can read a secret's copy, and only root can write it.

    Other users cannot even list the folder with the copy of a secret.
    """
    place = copied.paths[secret]
    top = next(each for each in place.parents if each.name.startswith("entrepot-files-"))

    assert place.read_text() == "old"
    assert (top.stat().st_uid, top.stat().st_gid, top.stat().st_mode & 0o777) == (0, 23456, 0o750)
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (0, 0o640)


def test_the_path_of_a_copy_contains_that_of_its_original(
    secret: Path, copied: SecretCopies
) -> None:
    """The path of a copy contains the path of the original, so messages name the original."""
    assert str(copied.paths[secret]).endswith(str(secret))


def test_a_file_changed_in_place_is_copied_again(secret: Path, copied: SecretCopies) -> None:
    """A secret that is overwritten in place, as in a bind mount of one file, is copied again."""
    secret.write_text("new")

    eventually(lambda: _now(copied, secret) == "new")


def test_a_replaced_file_is_copied_again(secret: Path, copied: SecretCopies) -> None:
    """A secret that an editor replaces by a rename is copied again."""
    other = secret.with_name("other")
    other.write_text("new")
    other.rename(secret)

    eventually(lambda: _now(copied, secret) == "new")


def test_a_swapped_link_above_the_file_is_followed(tmp_path: Path) -> None:
    """A secret is copied again if a link in its path is replaced, as in a volume of Kubernetes."""
    mounted = tmp_path / "volume"
    for name in ("first", "second"):
        (mounted / name).mkdir(parents=True)
        (mounted / name / "key").write_text(name)
    (mounted / "..data").symlink_to("first")
    (mounted / "key").symlink_to("..data/key")
    with secret_copies.create([mounted / "key"], USER) as copied:
        assert copied.paths[mounted / "key"].read_text() == "first"
        (mounted / "..new").symlink_to("second")

        (mounted / "..new").rename(mounted / "..data")

        eventually(lambda: _now(copied, mounted / "key") == "second")


def test_the_last_copy_stays_while_the_file_is_missing(secret: Path, copied: SecretCopies) -> None:
    """The last copy of a secret stays while the original is missing.

    When the original exists again, the copy is replaced.
    """
    secret.unlink()
    for _ in range(3):
        assert _now(copied, secret) == "old"

    secret.write_text("new")
    eventually(lambda: _now(copied, secret) == "new")


def test_a_failed_copy_is_retried(
    secret: Path,
    copied: SecretCopies,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed copy of a secret is retried: the temporary folder may be full for a moment."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    secret.write_text("new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        eventually(
            lambda: (
                _now(copied, secret) and "the changed file could not be copied" in caplog.messages
            )
        )
        assert _now(copied, secret) == "old"

    eventually(lambda: _now(copied, secret) == "new")


def test_copies_are_removed_at_the_end_and_those_of_a_killed_process_at_the_start(
    secret: Path, temporary: Path
) -> None:
    """Copies of secrets are removed when the appliance stops.

    Copies of a killed process are removed at the next start.
    """
    left = temporary / "entrepot-files-killed"
    left.mkdir()
    (left / "secret").write_text("old")
    with secret_copies.create([secret], USER):
        assert not left.exists()

    assert not list(temporary.iterdir())


def test_copies_of_a_running_appliance_stay_and_a_second_start_is_refused(
    secret: Path, copied: SecretCopies
) -> None:
    """A second `serve` in a container is refused, and the first one's copies of secrets stay.

    Earlier versions deleted the copies at a second start.
    """
    with pytest.raises(ConfigError, match="another appliance runs in this container"):
        separation.refuse_second()
    with secret_copies.create([secret], USER):
        pass

    assert copied.paths[secret].read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder", "locked folder", "link to a folder of root"])
def test_an_entry_of_another_user_in_the_temporary_folder_refuses_no_start(
    temporary: Path, tmp_path: Path, kind: str
) -> None:
    """An entry of another user in the temporary folder does not prevent the start."""
    planted, lock = temporary / "entrepot-files-planted", -1
    if kind == "file":
        planted.touch()
    elif kind.startswith("link"):
        planted.symlink_to(tmp_path)
    else:
        planted.mkdir()
    os.chown(planted, USER.uid, USER.gid, follow_symlinks=False)
    if kind == "locked folder":
        lock = os.open(planted, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)

    separation.refuse_second()

    if lock >= 0:
        os.close(lock)


def test_a_copy_is_never_readable_by_other_users(
    secret: Path, copied: SecretCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret's copy is never readable by other users, even while it is written.

    A user who had opened the folder before the copy was written gets no access to the secret
    either.
    """
    modes: list[int] = []
    fchmod = os.fchmod

    def seen(fd: int, mode: int) -> None:
        modes.append(os.fstat(fd).st_mode)
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", seen)
    secret.write_text("new")
    eventually(lambda: _now(copied, secret) == "new")

    assert [mode & 0o077 for mode in modes] == [0]
    assert copied.paths[secret].stat().st_mode & 0o007 == 0


def test_an_unreadable_original_is_an_error(tmp_path: Path, temporary: Path) -> None:
    """If a secret can no longer be read after the check, `create` raises ConfigError."""
    with (
        pytest.raises(ConfigError, match="gone: no such file"),
        secret_copies.create([tmp_path / "gone"], USER),
    ):
        pass
    assert not list(temporary.iterdir())


def _now(copied: SecretCopies, path: Path) -> str:
    copied.refresh()
    return copied.paths[path].read_text()
