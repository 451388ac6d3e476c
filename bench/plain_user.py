"""Runs the benchmark as a plain user, because the kernel allows root more memory for pipes.

A plain user's pipes hold 64 MiB in total (`pipe-user-pages-soft`), which limits HAProxy's `splice`.
If root starts the benchmark, it continues as `nobody`, with all servers and load generators.
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
    """If root runs this program, restart it as `nobody`.

    *out* is given to `nobody`, who must also be able to read the paths *needed*.
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
    """Return the words that start a program as a plain user.

    With *reads_all* that user may read every file, which is needed if Python is in a folder of
    root.
    """
    words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    if reads_all:
        # At its start, Python calls access(2), which honours the capability only if it is ambient.
        words += [f"--inh-caps=-all,{_READ_ALL}", f"--ambient-caps=-all,{_READ_ALL}"]
        words += [f"--bounding-set=-all,{_READ_ALL}", "--securebits=+no_setuid_fixup"]
    return words


def may_reach(path: Path) -> bool:
    """Return whether every user can reach *path*: all its parent folders are open to others."""
    whole = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (whole, *whole.parents))


def described() -> str:
    """Return the name of the user that runs the benchmark, and any special right, in words."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    beyond = ", with the right to read all files (Python is in a folder of root)"
    return f"the plain user {name}{beyond if os.environ.get(_MARK) else ''}"
