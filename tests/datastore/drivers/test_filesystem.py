"""Tests how the driver `filesystem` handles crashes, disk errors and concurrent processes."""

from __future__ import annotations

import errno
import io
import math
import os
import socket
from pathlib import Path

import pytest

from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.errors import DatastoreError, StorageBroken, StorageFull
from entrepot.datastore.storage import TimedStorage, descriptor_of
from tests.processes import next_line, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of the storage, which does not exist yet."""
    return tmp_path / "root"


@pytest.fixture
def storage(root: Path) -> Filesystem:
    """Return an empty storage."""
    return Filesystem(root)


def _files(root: Path) -> list[str]:
    """Return all files below *root*, including unfinished files."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_key_is_a_path_below_the_root(storage: Filesystem, root: Path) -> None:
    """The key of a value is the path of its file below the root."""
    storage.write("docker/registry/v2/x", b"content")

    assert (root / "docker/registry/v2/x").read_bytes() == b"content"


def test_files_have_descriptors_and_times(storage: Filesystem) -> None:
    """An open value has a file descriptor, which sendfile needs, and the driver stores times."""
    storage.write("key", b"content")

    with storage.open("key") as file:
        assert descriptor_of(file) == file.fileno()
    assert isinstance(storage, TimedStorage)


def test_a_key_cannot_lead_out_of_the_root(storage: Filesystem) -> None:
    """A key with `..`, which could lead out of the root, is refused."""
    for key in ("../x", "a/../../x", "a/.."):
        with pytest.raises(AssertionError):
            storage.write(key, b"")


def test_a_key_may_contain_dots(storage: Filesystem, root: Path) -> None:
    """A key with two dots within a name is accepted, because `v1..2` is a valid tag."""
    storage.write("tags/v1..2/link", b"")

    assert _files(root) == ["tags/v1..2/link"]


def test_an_open_value_is_a_file_that_the_kernel_can_send(storage: Filesystem) -> None:
    """The kernel can send the bytes of an open value to a socket with sendfile."""
    storage.write("key", b"0123456789")
    ours, theirs = socket.socketpair()

    with ours, theirs, storage.open("key") as file:
        sent = os.sendfile(ours.fileno(), file.fileno(), 4, 100)

        assert theirs.recv(100) == b"456789"[:sent]


def test_an_open_value_has_no_buffer(storage: Filesystem) -> None:
    """An open value has no buffer in the process, so a thousand open values need little memory."""
    storage.write("key", b"0123456789")

    with storage.open("key") as file:
        assert isinstance(file, io.RawIOBase)


def test_the_last_deletion_leaves_an_empty_root(storage: Filesystem, root: Path) -> None:
    """After the last value was deleted, the root folder still exists: it can be a mount point."""
    storage.write("a/b/c", b"")

    storage.delete("a/b/c")

    assert (root.is_dir(), list(root.iterdir())) == (True, [])


def test_a_folder_removed_by_another_process_does_not_stop_the_cleanup(
    storage: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another process removes an empty folder first, `delete` removes the folders above it.

    The folders above may be empty too, and the other process may be killed before it removes them.
    """
    storage.write("a/b/c", b"")
    rmdir = os.rmdir

    def rmdir_reports_absence(path: str) -> None:
        rmdir(path)
        if path.endswith("/b"):
            raise FileNotFoundError(errno.ENOENT, "removed by another", path)

    monkeypatch.setattr(os, "rmdir", rmdir_reports_absence)

    assert storage.delete("a/b/c") is True
    assert list(root.iterdir()) == []


def test_a_symbolic_link_is_not_followed(storage: Filesystem, root: Path, tmp_path: Path) -> None:
    """A walk follows no symbolic link, so it visits only the data directory and is not endless."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"")
    storage.write("a/value", b"")
    (root / "a/elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "a/circle").symlink_to(root)

    assert [stat.key for stat in storage.walk("a")] == ["a/value"]


# ---- errors of the disk


def _fail(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, StorageFull),
        (errno.EIO, StorageBroken),
        (errno.EACCES, StorageBroken),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value.__name__,
)
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failed_write_keeps_the_old_value_and_raises_the_reason(
    storage: Filesystem,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    expected: type[DatastoreError],
) -> None:
    """If a write fails, the old value stays, and no unfinished file remains.

    The exception shows whether the disk is full or has another error.
    """
    storage.write("key", b"old")
    _fail(monkeypatch, call, code)

    with pytest.raises(expected, match=os.strerror(code)):
        storage.write("key", b"new")
    assert storage.read("key") == b"old"
    assert storage.remove_unfinished("", before=math.inf) == 0


@pytest.mark.parametrize(
    ("call", "verb"),
    [
        ("stat", lambda storage: storage.stat("key")),
        ("unlink", lambda storage: storage.delete("key")),
        ("listdir", lambda storage: list(storage.list(""))),
        ("scandir", lambda storage: list(storage.walk(""))),
        ("utime", lambda storage: storage.touch("key", 1.0)),
    ],
    ids=["stat", "delete", "list", "walk", "touch"],
)
def test_every_method_raises_storage_broken_for_a_broken_disk(
    storage: Filesystem, monkeypatch: pytest.MonkeyPatch, call: str, verb: object
) -> None:
    """If the disk reports an input/output error, each method raises StorageBroken, not NotFound."""
    storage.write("key", b"")
    _fail(monkeypatch, call, errno.EIO)

    assert callable(verb)
    with pytest.raises(StorageBroken):
        verb(storage)


def test_a_value_in_place_of_a_folder_raises_storage_broken(storage: Filesystem) -> None:
    """If a file has the path of a needed folder, a write raises StorageBroken; it does not loop."""
    storage.write("a", b"")

    with pytest.raises(StorageBroken):
        storage.write("a/b", b"")


# ---- durability of writes


def test_content_is_synced_before_its_name_and_the_name_before_the_return(
    storage: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is synced before the rename, and the folder is synced before the write returns.

    So after a power failure, no file has its final name without all of its bytes.
    """
    path = tmp_path / "finished"
    path.write_bytes(b"content")
    storage.write("a/other", b"")
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        calls.append(f"rename to {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)

    storage.commit_file(path, "a/committed")
    storage.write("a/written", b"content")

    temporary = calls[3].removeprefix("fsync ")
    assert calls == [
        *("fsync finished", "rename to committed", "fsync a"),
        *(f"fsync {temporary}", "rename to written", "fsync a"),
    ]


# ---- files of another file system


@pytest.fixture
def two_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse renames between folders, as the kernel does between two file systems."""
    rename = os.rename

    def refuse_between_folders(source: str, target: str) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_between_folders)


@pytest.mark.usefixtures("two_file_systems")
def test_a_file_of_another_file_system_is_copied(
    storage: Filesystem, root: Path, tmp_path: Path
) -> None:
    """`commit_file` copies a finished file from another file system, and then deletes it there."""
    path = tmp_path / "finished"
    path.write_bytes(b"content" * 100_000)

    storage.commit_file(path, "a/b/data")

    assert storage.read("a/b/data") == b"content" * 100_000
    assert (_files(root), path.exists()) == (["a/b/data"], False)


@pytest.mark.usefixtures("two_file_systems")
def test_a_copy_to_a_full_disk_keeps_the_finished_file(
    storage: Filesystem, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full while a file is copied from another file system, the original file stays.

    A later commit of the file can succeed.
    """
    path = tmp_path / "finished"
    path.write_bytes(b"content")
    storage.write("a/b", b"")
    monkeypatch.setattr(
        "shutil.copyfile", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )

    with pytest.raises(StorageFull):
        storage.commit_file(path, "a/data")
    assert (_files(root), path.read_bytes()) == (["a/b"], b"content")


# ---- crashes during writes

_WRITE_UNTIL_KILLED = """
import itertools, sys
from pathlib import Path
from entrepot.datastore.drivers.filesystem import Filesystem
storage = Filesystem(Path(sys.argv[1]))
spool = Path(sys.argv[2])
for number in itertools.count():
    content = bytes([number % 251]) * 200_000
    storage.write("written/value", content)
    spool.write_bytes(content)
    storage.commit_file(spool, "committed/value")
    print(number)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_value_or_the_new(
    storage: Filesystem, root: Path, tmp_path: Path
) -> None:
    """If a process is killed during a write or a commit, readers see the old or the new value."""
    for rounds in range(6):
        with running(_WRITE_UNTIL_KILLED, root, tmp_path / "spool") as process:
            for _ in range(rounds + 1):
                assert next_line(process)
            process.kill()
            process.wait()

        for key in ("written/value", "committed/value"):
            content = storage.read(key)
            assert (len(content), len(set(content))) == (200_000, 1)
        assert [stat.key for stat in storage.walk("")] == ["committed/value", "written/value"]
        assert list(storage.list("written")) == ["value"]


def test_old_unfinished_files_are_removed(storage: Filesystem, root: Path) -> None:
    """Old unfinished files are removed; a recent one stays, because a process may be writing it."""
    storage.write("a/value", b"content")
    storage.write("b/value", b"content")
    (root / "a/value").rename(root / "a/0123456789abcdef~unfinished")
    (root / "b/value").rename(root / "b/fedcba9876543210~unfinished")
    os.utime(root / "a/0123456789abcdef~unfinished", (50.0, 50.0))

    assert (list(storage.list("a")), list(storage.walk(""))) == ([], [])
    assert storage.remove_unfinished("", before=51.0) == 1
    assert _files(root) == ["b/fedcba9876543210~unfinished"]


def test_writes_use_the_suffix_of_unfinished_files(
    storage: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a write, the temporary file has the suffix by which unfinished files are found."""
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(_files(root)))

    storage.write("key", b"")

    assert seen[0].endswith("~unfinished")
