"""Runs the benchmark as a plain user, because the kernel gives root more pipe buffers.

A plain user has 64 MiB of pipes in total (`pipe-user-pages-soft`), which limits `splice`. If root
starts the benchmark, the benchmark continues as `nobody`, with all servers, load generators and
files.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

USER = "nobody"
_READ_ALL = "+dac_read_search"
_MARK = "ENTREPOT_BENCH_READS_ALL"


def become(out: Path, needed: Sequence[Path]) -> None:
    """Restart the program as `nobody` if it runs as root; otherwise return.

    *out* becomes the property of `nobody`; `nobody` must be able to read the paths *needed*.
    """
    out.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam(USER)
    for path in (out, *out.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    reads_all = not all(may_reach(path) for path in needed)
    os.environ[_MARK] = "1" if reads_all else ""
    words = command(user.pw_uid, user.pw_gid, reads_all=reads_all)
    os.execvp(words[0], [*words, *sys.orig_argv])


def command(uid: int, gid: int, *, reads_all: bool) -> list[str]:
    """Return a command line prefix that runs a program as a plain user.

    If *reads_all* is set, the plain user may also read every file. The capability to read every
    file is needed if Python is in a folder that only root may read.
    """
    words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    if reads_all:
        # the capability is inheritable and ambient, so that access(2) honours it too
        words += [f"--inh-caps=-all,{_READ_ALL}", f"--ambient-caps=-all,{_READ_ALL}"]
        words += [f"--bounding-set=-all,{_READ_ALL}", "--securebits=+no_setuid_fixup"]
    return words


def may_reach(path: Path) -> bool:
    """Return whether every user may traverse the folders that lead to *path*."""
    whole = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (whole, *whole.parents))


def described() -> str:
    """Return a description of the user that runs the benchmark."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    beyond = ", with the right to read all files (Python is in a folder of root)"
    return f"the plain user {name}{beyond if os.environ.get(_MARK) else ''}"
