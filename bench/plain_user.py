"""Makes a plain user of root, for the kernel gives root more: pipes for splice above all.

A plain user has 64 MiB of pipes in all (`pipe-user-pages-soft`). Whoever starts the benchmark as
root becomes `nobody`, and with him every server, load generator and file.
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
    """Go on as `nobody` if we are root; *out* is his from then on, *needed* is what he must read.

    Does not return then: the program starts anew.
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
    """Return the words that run what follows as a plain user.

    With *reads_all* he may read every file, and nothing else that others may not: where Python
    lies in a folder of root's there would be no benchmark without it.
    """
    words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    if reads_all:
        # access(2) too goes by what he may: without no_setuid_fixup it does not
        words += [f"--inh-caps=-all,{_READ_ALL}", f"--ambient-caps=-all,{_READ_ALL}"]
        words += [f"--bounding-set=-all,{_READ_ALL}", "--securebits=+no_setuid_fixup"]
    return words


def may_reach(path: Path) -> bool:
    """Whether everybody may go through all the folders that lead to *path*, links followed."""
    whole = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (whole, *whole.parents))


def described() -> str:
    """Return who runs this, in words."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    beyond = ", who may read all files (Python lies in a folder of root's)"
    return f"the plain user {name}{beyond if os.environ.get(_MARK) else ''}"
