"""Test that root follows no link that a compromised service user has planted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.appliance.__main__ import main
from entrepot.appliance.privileges import secret_copies, trusted_path, users
from entrepot.appliance.privileges.ownership import OwnershipChange, take_over
from entrepot.appliance.privileges.trusted_path import UntrustedPath
from entrepot.appliance.privileges.users import Choice, User
from tests.appliance.haproxy import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to abuse")

USER = User("somebody", 12345, 23456, "/")
SECRET = "root's alone"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Create a folder of root to which the service user must get no access."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    for name in ("shadow", "below/key"):
        (folder / name).write_text(SECRET)
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Create a data directory of the service user, with a file of root at its top."""
    folder = tmp_path / "data"
    for name in ("entrepot/log", "docker/registry/v2/blobs/sha256/aa", "docker/registry/v2/r"):
        (folder / name).mkdir(parents=True)
    take_over(folder, USER)
    (folder / "new").write_text("")
    return folder


def _is_root_s(folder: Path) -> bool:
    return {each.lstat().st_uid for each in (folder, *folder.rglob("*"))} == {0}


Plant = Callable[[Path, Path], None]


def _replace(name: str) -> Plant:
    def plant(data: Path, outside: Path) -> None:
        (data / name).rename(data / "aside")
        (data / name).symlink_to(outside)

    return plant


def _add(name: str, target: str) -> Plant:
    return lambda data, outside: (data / name).symlink_to(outside / target)


def _hard_link(name: str) -> Plant:
    return lambda data, outside: (data / name).hardlink_to(outside / "shadow")


PLANTS = {
    "state directory": _replace("entrepot"),
    "log folder": _replace("entrepot/log"),
    "docker": _replace("docker"),
    "blobs": _replace("docker/registry/v2/blobs"),
    "link to a folder at the top": _add("folder", "."),
    "link to a file at the top": _add("file", "shadow"),
    "link to a file far below": _add("docker/registry/v2/r/link", "below/key"),
    "hard link at the top": _hard_link("shadow"),
    "hard link in the log folder": _hard_link("entrepot/log/access.log"),
    "hard link as the index": _hard_link("entrepot/index.sqlite"),
    "link up": lambda data, _: (data / "up").symlink_to("../outside"),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_link_in_the_data_directory_gives_the_user_no_other_file(
    data: Path, outside: Path, plant: Plant
) -> None:
    """A link in the data directory does not make the service user own a file outside of it.

    The test creates a symbolic or hard link in the data directory, in some cases in place of a file
    of the appliance. Then `take_over` gives the directory to the service user.
    """
    plant(data, outside)

    take_over(data, USER)

    assert _is_root_s(outside)


def test_a_pipe_and_a_deep_tree_do_not_block_the_walk(data: Path) -> None:
    """A pipe and a deep tree of folders do not block the walk that changes owners.

    The walk opens no file for reading, and limits the number of open folders.
    """
    os.mkfifo(data / "pipe")
    deep = os.open(data, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)

    taken = take_over(data, USER)

    assert taken.given > 300
    assert taken.refused == 1


def test_a_folder_swapped_during_the_walk_gives_no_other_file(data: Path, outside: Path) -> None:
    """If a link replaces a folder during the walk, no file behind the link changes its owner."""
    victim, link = data / "docker", data / "link"
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        spare = data / "spare"
        while not stop.is_set():
            for first, second in ((victim, link), (link, victim)):
                first.rename(spare)
                second.rename(first)
                spare.rename(second)

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for _ in range(150):
            (data / "new").unlink(missing_ok=True)
            (data / "new").write_text("")
            with contextlib.suppress(OSError):
                take_over(data, USER)
    finally:
        stop.set()
        racer.join()

    assert _is_root_s(outside)


def test_a_state_directory_behind_a_link_of_the_user_is_not_taken_over(
    data: Path, outside: Path
) -> None:
    """A state directory behind a link of the service user is refused.

    The service user owns the parent folder of the state directory, and could link to any folder.
    """
    (data / "state").symlink_to(outside)

    with pytest.raises(UntrustedPath):
        take_over(data / "state", USER)
    with pytest.raises(UntrustedPath):
        take_over(data / "state/new", USER)

    assert _is_root_s(outside)
    assert not (outside / "new").exists()


def test_links_of_root_are_followed(data: Path, tmp_path: Path) -> None:
    """Links of root are followed: the operator may have put the data elsewhere."""
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(data)

    assert take_over(tmp_path / "first", USER) == OwnershipChange(1)


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    """A loop of symbolic links is an error, as in the kernel."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(OSError, match="Too many levels"):
        take_over(tmp_path / "a", USER)


@pytest.fixture
def planted(data: Path, outside: Path, tmp_path: Path) -> dict[str, Path]:
    """Return paths that an operator could configure, and that the service user can redirect."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    writable = tmp_path / "writable"
    writable.mkdir()
    writable.chmod(0o777)
    group = tmp_path / "group"
    group.mkdir()
    group.chmod(0o770)
    os.chown(group, 0, USER.gid)
    for folder in (shared, writable, group, data):
        (folder / "link").symlink_to(outside / "shadow")
        os.chown(folder / "link", USER.uid, USER.gid, follow_symlinks=False)
        (folder / "hard").hardlink_to(outside / "shadow")
        (folder / "folder").symlink_to(outside)
        os.chown(folder / "folder", USER.uid, USER.gid, follow_symlinks=False)
    return {
        f"{folder.name} {name}": folder / name
        for folder in (shared, writable, group, data)
        for name in ("link", "hard", "folder/below/key")
    }


def test_a_file_that_the_user_can_replace_is_not_copied(planted: dict[str, Path]) -> None:
    """Root copies no secret from a path that the service user can replace.

    The user could replace the path by a link to any file, and root would copy that file.
    """
    with secret_copies.create(planted.values(), USER) as copied:
        assert {name for name, path in planted.items() if path in copied.paths} == set()


def test_the_last_copy_stays_when_a_file_becomes_replaceable(tmp_path: Path) -> None:
    """If the service user becomes able to replace a secret, the last copy of the secret stays."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    file, other = folder / "key", tmp_path / "other"
    file.write_text("old")
    other.write_text(SECRET)
    with secret_copies.create([file], USER) as copied:
        os.chown(folder, USER.uid, USER.gid)
        file.unlink()
        file.symlink_to(other)
        for _ in range(3):
            copied._originals[file].refresh()
            copied.refresh()

        assert copied.paths[file].read_text() == "old"


@pytest.mark.parametrize("name", ["key", "etc/key"])
def test_copies_are_written_into_the_opened_folder_even_if_its_path_changed(
    tmp_path: Path, outside: Path, name: str
) -> None:
    """Root writes copies into the folder that root opened, even if the service user renames it."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("old")
    with secret_copies.create([file], USER) as copied:
        top = next(p for p in copied.paths[file].parents if p.name.startswith("entrepot-files-"))
        aside = top.with_name("aside")
        top.rename(aside)
        top.symlink_to(outside)
        file.write_text("new")
        os.utime(file, (1, 1))
        copied._originals[file].refresh()
        copied.refresh()
        top.unlink()
        aside.rename(top)

        assert copied.paths[file].read_text() == "new"
    assert sorted(each.name for each in outside.rglob("*")) == ["below", "key", "shadow"]


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A named pipe in place of a secret is refused: opening it would block root's process."""
    os.mkfifo(tmp_path / "pipe")

    with (
        pytest.raises(OSError, match="not a regular file"),
        trusted_path.open_file(tmp_path / "pipe", USER),
    ):
        pass


# Each entry prepares the output folder `out` of a command of root in a different way.


OUTPUTS: dict[str, Plant] = {
    "the folder itself": lambda data, outside: (data / "out").symlink_to(outside),
    "a folder in it": lambda data, outside: _linked(data / "out", "certs", outside),
    "nothing yet": lambda data, outside: None,  # noqa: ARG005 - a Plant
}


def _linked(folder: Path, name: str, target: Path) -> None:
    folder.mkdir()
    (folder / name).symlink_to(target)


@pytest.mark.parametrize("words", [["certs", "--host=a.test"], ["clients", "--host=a.test"]])
@pytest.mark.parametrize("plant", OUTPUTS.values(), ids=OUTPUTS)
def test_no_command_of_root_writes_to_a_folder_that_the_user_controls(
    data: Path,
    outside: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    plant: Plant,
    words: list[str],
) -> None:
    """`certs` and `clients` as root write into no folder that the service user controls."""
    plant(data, outside)
    before = sorted(outside.rglob("*"))
    monkeypatch.setattr(users, "choose", lambda _: Choice(USER))

    assert main([*words, f"--out={data / 'out'}"]) == 2

    assert sorted(outside.rglob("*")) == before
    assert "can replace parts of the path" in capsys.readouterr().err


@pytest.mark.parametrize("shared", [0o1777, 0o777])
def test_no_command_of_root_writes_to_a_shared_folder(tmp_path: Path, shared: int) -> None:
    """A command of root writes to no folder in which the service user could create a link."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(shared)

    with pytest.raises(UntrustedPath):
        trusted_path.check_output(folder / "out", USER)


def test_a_command_of_root_writes_to_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of root writes to a folder that root owns, and creates a missing folder."""
    monkeypatch.setattr(users, "choose", lambda _: Choice(USER))

    assert main(["certs", "--host=a.test", f"--out={tmp_path / 'new' / 'tls'}"]) == 0

    assert (tmp_path / "new" / "tls" / "certs" / "certs.pem").exists()


# ---- files that `check` reads


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "reader"), [(USER.uid, USER.uid), (0, 0)])
def test_check_reads_as_root_only_files_that_the_user_cannot_replace(
    tmp_path: Path, owner: int, reader: int
) -> None:
    """`check` reads as root only files that the service user cannot replace.

    The user could replace any other file by a link to a file of root, or by a pipe on which root
    would wait.
    """
    folder = tmp_path / "passwords"
    folder.mkdir()
    (folder / "htpasswd").write_text("ann:$2b$05$" + "a" * 53 + "\n")
    for each in (folder, folder / "htpasswd"):
        os.chown(each, owner, owner)
    tmp_path.chmod(0o755)

    found = subprocess.run(
        [sys.executable, "-c", _CHECK, str(folder / "htpasswd"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.split() == [str(reader)], found


_CHECK = """
import os, sys
from pathlib import Path
from entrepot import config
from entrepot.appliance import check
from entrepot.appliance.privileges import users
from entrepot.appliance.privileges.users import Choice, User
users.choose = lambda _: Choice(User("somebody", 12345, 23456, "/"))
config.check = lambda _: sys.exit(print(os.geteuid()))
argv = ["--auth.htpasswd.realm=r", f"--auth.htpasswd.path={sys.argv[1]}"]
check.main([*argv, f"--storage.filesystem.rootdirectory={sys.argv[2]}/data"], {})
"""
