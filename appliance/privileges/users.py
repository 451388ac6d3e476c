"""Who serves: in the image, root gives all but the first process to the user `entrepot`.

Only there, and only for root: outside the image nobody has made that user for us, and who starts
us as somebody else (`--user`, `runAsUser`) has chosen already. What root then still does is in
appliance/privileges/separation.py.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot import config

NAME = "entrepot"

# capabilities(7): to give files away, read all of them, end another's processes, become another
NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
_EFFECTIVE = re.compile(r"^CapEff:\s*([0-9a-fA-F]+)$", re.MULTILINE)
_PR_SET_NO_NEW_PRIVS = 38  # prctl(2); survives execve, and cannot be taken back


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is not root."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is to serve, None for whoever we are; `lacking`: why root cannot give itself up."""

    user: User | None
    lacking: tuple[str, ...] = ()


def choose(environ: Mapping[str, str]) -> Choice:
    """Decide who serves, for the process that we are."""
    if not config.is_image(environ) or os.geteuid() != 0:
        return Choice(None)
    lacking = missing(Path("/proc/self/status").read_text())
    user = account(NAME)
    if user is None:
        return Choice(None, (f"user {NAME}",))
    return Choice(None, lacking) if lacking else Choice(user)


def step_down(environ: Mapping[str, str]) -> None:
    """Become who serves, for a command that writes among his files. Raises: OSError."""
    user = choose(environ).user
    if user is not None:
        become(user)


def missing(status: str) -> tuple[str, ...]:
    """Name the capabilities that root needs and, by its proc(5) *status*, does not have."""
    found = _EFFECTIVE.search(status)
    held = int(found[1], 16) if found else 0
    return tuple(f"CAP_{name}" for name, bit in NEEDED.items() if not held >> bit & 1)


def account(name: str) -> User | None:
    """Look a user up; None when this system has none of that name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def become(user: User) -> None:
    """Turn this process into one of *user*'s, for good: nothing it starts can rise again.

    Raises: OSError.
    """
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
