"""Tests of `file_system_of`, which finds the type of a path's file system in the list of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.runtime.mounts import file_system_of

_MOUNTS = r"""21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw shared:2 - devtmpfs udev rw
23 22 0:6 / /dev/shm rw shared:3 master:1 - tmpfs tmpfs rw,size=64k
24 21 0:7 / /mnt/a\040b rw - ramfs none rw
25 21 0:8 / /twice rw - ext4 /dev/sdb1 rw
26 25 0:9 / /twice rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/shm/entrepot/below", "tmpfs"),
        ("/dev/shmem", "devtmpfs"),
        ("/var/lib", "ext4"),
        ("/mnt/a b/c", "ramfs"),
        ("/twice/x", "tmpfs"),
        ("/dev/shm/../x", "devtmpfs"),
    ],
)
def test_the_deepest_and_last_mount_counts(tmp_path: Path, path: str, expected: str) -> None:
    """The type of a path's file system is that of the deepest mount above the path.

    If two file systems are mounted at that folder, the last one in the list is used. The path
    itself does not have to exist.
    """
    mounts = tmp_path / "mountinfo"
    mounts.write_text(_MOUNTS)

    assert file_system_of(Path(path), mounts) == expected


def test_without_a_list_of_mounts_the_type_is_unknown(tmp_path: Path) -> None:
    """If the list of mounts cannot be read, the returned type is the empty string."""
    assert file_system_of(Path("/"), tmp_path / "absent") == ""
