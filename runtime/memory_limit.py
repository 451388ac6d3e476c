"""Read how much memory this process may use, from the machine and from its control group."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")
_NO_LIMIT = 1 << 60  # Version 1 of control groups reports a number near 2**63 if there is no limit.


def memory_limit(root: Path = _ROOT) -> int:
    """Return the smallest of the machine's memory and the control group's limits, in bytes.

    Both versions of control groups are read (cgroups(7)). *root* is the root of the file system.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    groups = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                limits += _limits(groups, path, "memory.max")
            elif "memory" in controllers.split(","):
                limits += _limits(groups / "memory", path, "memory.limit_in_bytes")
    return min(limits)


def _limits(top: Path, path: str, name: str) -> list[int]:
    """Return the limits of a control group and of all groups that contain it.

    In a container, *path* can be the group's path on the host, which does not exist inside the
    container. In that case *top* is the folder of the group.
    """
    group, found = top / path.lstrip("/"), list[int]()
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):  # A group without a limit has the text "max".
            limit = int((folder / name).read_text())
            if 0 < limit < _NO_LIMIT:
                found.append(limit)
        if folder == top:
            break
    return found
