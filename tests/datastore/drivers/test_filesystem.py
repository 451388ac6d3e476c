"""What only a disk can do wrong: crashes, full disks, other file systems, races for folders."""

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
from tests.processes import next_line, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return where the storage lies; it is not made yet."""
    return tmp_path / "root"


@pytest.fixture
def storage(root: Path) -> Filesystem:
    """Return an empty storage."""
    return Filesystem(root)


def _files(root: Path) -> list[str]:
    """Return every file, also those that the storage does not show."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_key_is_a_path_below_the_root(storage: Filesystem, root: Path) -> None:
    """Docker distribution reads the same files."""
    storage.write("docker/registry/v2/x", b"content")

    assert (root / "docker/registry/v2/x").read_bytes() == b"content"


def test_a_key_cannot_lead_out_of_the_root(storage: Filesystem) -> None:
    """Keys are made by the layout; one that climbs is a defect of ours."""
    for key in ("../x", "a/../../x", "a/.."):
        with pytest.raises(AssertionError):
            storage.write(key, b"")


def test_a_key_may_hold_dots(storage: Filesystem, root: Path) -> None:
    """`v1..2` is a good tag."""
    storage.write("tags/v1..2/link", b"")

    assert _files(root) == ["tags/v1..2/link"]


def test_an_open_value_is_a_file_that_the_kernel_can_send(storage: Filesystem) -> None:
    """A hit costs one sendfile, also from a position on."""
    storage.write("key", b"0123456789")
    ours, theirs = socket.socketpair()

    with ours, theirs, storage.open("key") as file:
        sent = os.sendfile(ours.fileno(), file.fileno(), 4, 100)

        assert theirs.recv(100) == b"456789"[:sent]


def test_an_open_value_holds_no_buffer(storage: Filesystem) -> None:
    """A thousand bodies that the kernel sends at a time had 64 KiB each, for nothing."""
    storage.write("key", b"0123456789")

    with storage.open("key") as file:
        assert isinstance(file, io.RawIOBase)


def test_the_last_deletion_leaves_the_root_and_nothing_in_it(
    storage: Filesystem, root: Path
) -> None:
    """Folders that are empty go, up to the root; it may be a mount point."""
    storage.write("a/b/c", b"")

    storage.delete("a/b/c")

    assert (root.is_dir(), list(root.iterdir())) == (True, [])


def test_folders_that_another_process_removes_first_end_nothing(
    storage: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is above them may still be empty, and is nobody else's to remove."""
    storage.write("a/b/c", b"")
    rmdir = os.rmdir

    def be_second(path: str) -> None:
        rmdir(path)
        if path.endswith("/b"):
            raise FileNotFoundError(errno.ENOENT, "removed by another", path)

    monkeypatch.setattr(os, "rmdir", be_second)

    assert storage.delete("a/b/c") is True
    assert list(root.iterdir()) == []


def test_a_link_out_of_the_tree_is_not_walked(
    storage: Filesystem, root: Path, tmp_path: Path
) -> None:
    """A walk that feeds an eviction must not leave the data directory, nor run in a circle."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"")
    storage.write("a/value", b"")
    (root / "a/elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "a/circle").symlink_to(root)

    assert [stat.key for stat in storage.walk("a")] == ["a/value"]


# ---- refusals of the disk


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
def test_a_refused_write_says_why_and_leaves_the_old_value(
    storage: Filesystem,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    expected: type[DatastoreError],
) -> None:
    """A disk without room is one thing, a broken one another; no half file stays of either."""
    storage.write("key", b"old")
    _fail(monkeypatch, call, code)

    with pytest.raises(expected, match=os.strerror(code)):
        storage.write("key", b"new")
    assert storage.read("key") == b"old"
    assert storage.tidy("", before=math.inf) == 0


@pytest.mark.parametrize(
    ("call", "verb"),
    [
        ("stat", lambda storage: storage.stat("key")),
        ("unlink", lambda storage: storage.delete("key")),
        ("listdir", lambda storage: list(storage.list(""))),
        ("scandir", lambda storage: list(storage.walk(""))),
        ("utime", lambda storage: storage.stamp("key", 1.0)),
    ],
    ids=["stat", "delete", "list", "walk", "stamp"],
)
def test_every_verb_names_a_broken_disk(
    storage: Filesystem, monkeypatch: pytest.MonkeyPatch, call: str, verb: object
) -> None:
    """An OSError never leaves the driver, and an input/output error is no absence."""
    storage.write("key", b"")
    _fail(monkeypatch, call, errno.EIO)

    assert callable(verb)
    with pytest.raises(StorageBroken):
        verb(storage)


def test_a_value_where_a_folder_must_be_is_a_broken_disk(storage: Filesystem) -> None:
    """It ends, and does not try for ever."""
    storage.write("a", b"")

    with pytest.raises(StorageBroken):
        storage.write("a/b", b"")


# ---- durability


def test_content_is_on_disk_before_its_name_and_the_name_before_the_end(
    storage: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a name never leads to a hole."""
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

    storage.adopt(path, "a/adopted")
    storage.write("a/written", b"content")

    temporary = calls[3].removeprefix("fsync ")
    assert calls == [
        *("fsync finished", "rename to adopted", "fsync a"),
        *(f"fsync {temporary}", "rename to written", "fsync a"),
    ]


# ---- another file system


@pytest.fixture
def two_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no rename cross folders, as none crosses file systems."""
    rename = os.rename

    def refuse_to_cross(source: str, target: str) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_to_cross)


@pytest.mark.usefixtures("two_file_systems")
def test_a_file_of_another_file_system_is_copied_in(
    storage: Filesystem, root: Path, tmp_path: Path
) -> None:
    """The state directory may lie on a disk of its own."""
    path = tmp_path / "finished"
    path.write_bytes(b"content" * 100_000)

    storage.adopt(path, "a/b/data")

    assert storage.read("a/b/data") == b"content" * 100_000
    assert (_files(root), path.exists()) == (["a/b/data"], False)


@pytest.mark.usefixtures("two_file_systems")
def test_a_copy_that_finds_no_room_leaves_the_finished_file(
    storage: Filesystem, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded can be adopted when there is room again."""
    path = tmp_path / "finished"
    path.write_bytes(b"content")
    storage.write("a/b", b"")
    monkeypatch.setattr(
        "shutil.copyfile", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )

    with pytest.raises(StorageFull):
        storage.adopt(path, "a/data")
    assert (_files(root), path.read_bytes()) == (["a/b"], b"content")


# ---- crashes

_WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from entrepot.datastore.drivers.filesystem import Filesystem
storage = Filesystem(Path(sys.argv[1]))
spool = Path(sys.argv[2])
for number in itertools.count():
    content = bytes([number % 251]) * 200_000
    storage.write("written/value", content)
    spool.write_bytes(content)
    storage.adopt(spool, "adopted/value")
    print(number)
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_value_or_the_new(
    storage: Filesystem, root: Path, tmp_path: Path
) -> None:
    """Kill -9 in the middle of write and adopt, again and again: no reader sees a part."""
    for rounds in range(6):
        with running(_WRITE_FOR_EVER, root, tmp_path / "spool") as process:
            for _ in range(rounds + 1):
                assert next_line(process)
            process.kill()
            process.wait()

        for key in ("written/value", "adopted/value"):
            content = storage.read(key)
            assert (len(content), len(set(content))) == (200_000, 1)
        assert [stat.key for stat in storage.walk("")] == ["adopted/value", "written/value"]
        assert list(storage.list("written")) == ["value"]


def test_what_a_crash_left_unfinished_is_tidied_when_it_is_old(
    storage: Filesystem, root: Path
) -> None:
    """It counts against the cap and has no name; a living writer's is left alone."""
    storage.write("a/value", b"content")
    storage.write("b/value", b"content")
    (root / "a/value").rename(root / "a/0123456789abcdef~unfinished")
    (root / "b/value").rename(root / "b/fedcba9876543210~unfinished")
    os.utime(root / "a/0123456789abcdef~unfinished", (50.0, 50.0))

    assert (list(storage.list("a")), list(storage.walk(""))) == ([], [])
    assert storage.tidy("", before=51.0) == 1
    assert _files(root) == ["b/fedcba9876543210~unfinished"]


def test_the_mark_of_the_unfinished_is_the_one_that_writes_use(
    storage: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test before this one would prove nothing."""
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(_files(root)))

    storage.write("key", b"")

    assert seen[0].endswith("~unfinished")
