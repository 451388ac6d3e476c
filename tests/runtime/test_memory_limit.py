"""Tests of `memory_limit`, which reads the limit of this process from its control group's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.runtime.memory_limit import memory_limit

_MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_control_group_the_machine_is_the_limit(tmp_path: Path) -> None:
    """Without a control group, the memory of the machine is the limit."""
    assert memory_limit(tmp_path) == _MACHINE


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "4096", "a/b/memory.max": "max"}, 4096),
        ("0::/a/b\n", {"a/memory.max": "8192", "a/b/memory.max": "4096"}, 4096),
        ("0::/of/the/host\n", {"memory.max": "4096"}, 4096),
        ("0::/\n", {"memory.max": "max\n"}, _MACHINE),
        ("3:memory:/a\n1:cpu:/b\n", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        ("3:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, _MACHINE),
        ("no lines of cgroups\n0::/\n", {"memory.max": "4096"}, _MACHINE),
    ],
    ids=["above", "own", "container", "none", "version 1", "version 1 without", "malformed"],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, group: str, files: dict[str, str], expected: int
) -> None:
    """The memory limit is the smallest limit of the process's control group and its parents.

    This is true for both versions of control groups.
    """
    _write(tmp_path, "proc/self/cgroup", group)
    for name, text in files.items():
        _write(tmp_path, f"sys/fs/cgroup/{name}", text)

    assert memory_limit(tmp_path) == expected
