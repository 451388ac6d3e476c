"""Tests of `write_atomically`, which replaces a whole file in one step."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from entrepot.runtime.atomic_write import write_atomically
from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent.parent
_TEMPORARY = {"mkstemp", "NamedTemporaryFile"}


def test_the_file_is_replaced_atomically(tmp_path: Path) -> None:
    """A file is replaced by a rename.

    A process that has the old file open can still read it to its end.
    """
    path = tmp_path / "metrics"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")

        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["metrics"]


@pytest.mark.parametrize("is_durable", [False, True])
@pytest.mark.parametrize("call", ["fchmod", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, is_durable: bool
) -> None:
    """If a write fails, the old file is unchanged and no temporary file remains."""
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new", mode=0o600, is_durable=is_durable)

    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, 0o600), (0o644, 0o644), (None, 0o640)], ids=str
)
def test_a_given_mode_is_exact_and_the_umask_decides_otherwise(
    tmp_path: Path, mode: int | None, expected: int
) -> None:
    """If a mode is given, the file has exactly that mode; otherwise the umask decides."""
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"", mode=mode)
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == expected


def test_a_durable_write_flushes_the_file_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable write syncs the file before the rename, and the folder after the rename.

    With another order, a file with the final name could be empty after a power cut.
    """
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    def rename(*names: Path) -> None:
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)

    write_atomically(tmp_path / "file", b"x", is_durable=True)

    assert done == ["file", "rename", "folder"]


def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """If the path is a symbolic link, the link itself is replaced.

    The file to which the link points is not changed.
    """
    other = tmp_path / "other"
    other.write_bytes(b"other")
    (tmp_path / "file").symlink_to(other)

    write_atomically(tmp_path / "file", b"new")

    assert other.read_bytes() == b"other"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_no_module_has_its_own_atomic_write() -> None:
    """No module calls mkstemp or NamedTemporaryFile: `write_atomically` makes all atomic writes."""
    own = {
        str(path.relative_to(_ROOT))
        for package in PACKAGES
        for path in (_ROOT / package).rglob("*.py")
        if any(name in path.read_text() for name in _TEMPORARY)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in _TEMPORARY
    }

    assert own == set()
