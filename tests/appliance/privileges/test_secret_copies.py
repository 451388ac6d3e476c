"""Root's files as the user who serves gets them, however they are changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.privileges import secret_copies, separation
from entrepot.appliance.privileges.secret_copies import SecretCopies
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError
from tests.appliance.front import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a group away")

USER = User("somebody", 12345, 23456, "/")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have copies made in a folder of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file that root alone can read."""
    path = tmp_path / "mounted" / "secret.json"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o600)
    return path


@pytest.fixture
def copied(secret: Path) -> Iterator[SecretCopies]:
    """Copy it."""
    with secret_copies.create([secret], USER) as made:
        yield made


def test_a_copy_can_be_read_by_the_user_s_group_and_changed_by_nobody(
    secret: Path, copied: SecretCopies
) -> None:
    """Everybody else does not even see that it is there."""
    place = copied.paths[secret]
    top = next(each for each in place.parents if each.name.startswith("entrepot-files-"))

    assert place.read_text() == "old"
    assert (top.stat().st_uid, top.stat().st_gid, top.stat().st_mode & 0o777) == (0, 23456, 0o750)
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (0, 0o640)


def test_a_copy_has_its_original_s_path_in_its_own(secret: Path, copied: SecretCopies) -> None:
    """What workers say of it names the file that the operator has mounted."""
    assert str(copied.paths[secret]).endswith(str(secret))


def test_a_file_that_is_written_in_place_is_copied_again(
    secret: Path, copied: SecretCopies
) -> None:
    """As it is changed where it is mounted by itself."""
    secret.write_text("new")

    eventually(lambda: _now(copied, secret) == "new")


def test_a_file_that_is_replaced_is_copied_again(secret: Path, copied: SecretCopies) -> None:
    """As an editor does it."""
    other = secret.with_name("other")
    other.write_text("new")
    other.rename(secret)

    eventually(lambda: _now(copied, secret) == "new")


def test_a_link_above_that_is_swapped_is_followed(tmp_path: Path) -> None:
    """As Kubernetes changes what it has mounted."""
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


def test_a_file_that_is_gone_leaves_the_last_copy(secret: Path, copied: SecretCopies) -> None:
    """And comes back when it does."""
    secret.unlink()
    for _ in range(3):
        assert _now(copied, secret) == "old"

    secret.write_text("new")
    eventually(lambda: _now(copied, secret) == "new")


def test_a_copy_that_fails_is_tried_again(
    secret: Path,
    copied: SecretCopies,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full temporary folder, for a moment."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    secret.write_text("new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        eventually(lambda: _now(copied, secret) and "changed file not copied" in caplog.messages)
        assert _now(copied, secret) == "old"

    eventually(lambda: _now(copied, secret) == "new")


def test_copies_are_gone_afterwards_those_of_one_that_was_killed_too(
    secret: Path, temporary: Path
) -> None:
    """Secrets stay nowhere."""
    left = temporary / "entrepot-files-killed"
    left.mkdir()
    (left / "secret").write_text("old")
    with secret_copies.create([secret], USER):
        assert not left.exists()

    assert not list(temporary.iterdir())


def test_copies_of_one_that_lives_stay_and_a_second_start_is_refused(
    secret: Path, copied: SecretCopies
) -> None:
    """A second `serve` in the same container deleted the secrets of the first."""
    with pytest.raises(ConfigError, match="another appliance runs in this container"):
        separation.refuse_second()
    with secret_copies.create([secret], USER):
        pass

    assert copied.paths[secret].read_text() == "old"


def test_no_copy_can_ever_be_read_by_all(
    secret: Path, copied: SecretCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the moment in which it is written, or by way of a folder that was opened."""
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


def test_an_original_that_cannot_be_read_is_an_error(tmp_path: Path, temporary: Path) -> None:
    """It was there a moment ago, when it was checked."""
    with (
        pytest.raises(ConfigError, match="gone: no such file"),
        secret_copies.create([tmp_path / "gone"], USER),
    ):
        pass
    assert not list(temporary.iterdir())


def _now(copied: SecretCopies, path: Path) -> str:
    copied.refresh()
    return copied.paths[path].read_text()
