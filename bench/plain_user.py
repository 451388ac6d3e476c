"""Run the benchmark as a plain user, because the kernel allows root more memory for pipes.

All pipes of a plain user together can use at most 64 MiB (`pipe-user-pages-soft`). HAProxy needs
pipes for `splice`, so this limit affects the cost of HAProxy. If root starts the benchmark, the
benchmark restarts itself as `nobody`, who then also starts all servers and load generators.
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

    `nobody` becomes the owner of *out*, and must be able to read the paths *needed*.
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
    """Return the first words of a command line that runs a program as a plain user.

    With *reads_all* that user can read every file, which is necessary if Python is in a folder that
    only root can read.
    """
    words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    if reads_all:
        # Only an ambient capability survives the execve(2) of a plain user. When Python starts, it
        # calls access(2), which ignores a plain user's capabilities unless no_setuid_fixup is set.
        words += [f"--inh-caps=-all,{_READ_ALL}", f"--ambient-caps=-all,{_READ_ALL}"]
        words += [f"--bounding-set=-all,{_READ_ALL}", "--securebits=+no_setuid_fixup"]
    return words


def may_reach(path: Path) -> bool:
    """Return whether *path* and all its parent folders have the permission x for other users."""
    whole = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (whole, *whole.parents))


def described() -> str:
    """Return the name of the user that runs the benchmark, and any special permission, as text."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    beyond = ", with permission to read all files, because only root can read Python's folder"
    return f"the plain user {name}{beyond if os.environ.get(_MARK) else ''}"
