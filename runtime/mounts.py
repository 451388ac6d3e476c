"""Find the type of the file system that contains a path (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system that contains *path*, such as `tmpfs`.

    *path* need not exist. Return an empty text if *mounts* cannot be read.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    there = path.resolve()
    deepest, found = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split(" ")[4]))
        # A later mount on the same folder hides the earlier mount.
        if there.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, found = len(point.parts), after.partition(" ")[0]
    return found


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda code: chr(int(code[1], 8)), text)
