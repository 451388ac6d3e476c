"""Choose the user that runs the appliance, and switch the process to that user.

In the image, a process of root becomes the service user `entrepot`. Outside the image the service
user does not exist, and the process keeps its user. The process also keeps its user if the operator
starts the container as another user than root (`--user`, `runAsUser`).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot import config
from entrepot.appliance.privileges.user import User as User
from entrepot.config.errors import ConfigError, Problem

NAME = "entrepot"

# Root needs these capabilities (capabilities(7)) to change owners of files, read all files, signal
# processes and become another user.
NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
_EFFECTIVE = re.compile(r"^CapEff:\s*([0-9a-fA-F]+)$", re.MULTILINE)
_PR_SET_NO_NEW_PRIVS = 38  # After this call of prctl(2), execve(2) can never add rights.


@dataclass(frozen=True, slots=True)
class Choice:
    """A `Choice` has the user to become, or None if the process keeps its user.

    `lacking` names the capabilities that root would need to become the service user.
    """

    user: User | None
    lacking: tuple[str, ...] = ()


def choose(environ: Mapping[str, str]) -> Choice:
    """Choose the user that the current process must become: the service user, or none."""
    if not config.is_image(environ) or os.geteuid() != 0:
        return Choice(None)
    lacking = missing(Path("/proc/self/status").read_text())
    user = account(NAME)
    if user is None:
        return Choice(None, (f"user {NAME}",))
    return Choice(None, lacking) if lacking else Choice(user)


def step_down(environ: Mapping[str, str]) -> None:
    """Become the service user, so that files that this command creates belong to that user.

    Raises: OSError; ConfigError if the service user cannot read the Python interpreter, because
    then this process could not import more modules.
    """
    user = choose(environ).user
    if user is not None:
        become(user)
        _check_interpreter(user)


def _check_interpreter(user: User) -> None:
    """Check that this process can still read the interpreter, the standard library and Entrepot."""
    needed = ((sys.executable, os.X_OK), (os.__file__, os.R_OK), (__file__, os.R_OK))
    for path, mode in needed:
        if not os.access(path, mode):
            remedy = f"install Entrepot and its interpreter where user {user.name} can read them"
            raise ConfigError([Problem(path, f"user {user.name} cannot read this file", remedy)])


def missing(status: str) -> tuple[str, ...]:
    """Return the capabilities that root needs but lacks.

    *status* is the content of /proc/PID/status.
    """
    found = _EFFECTIVE.search(status)
    effective = int(found[1], 16) if found else 0
    return tuple(f"CAP_{name}" for name, bit in NEEDED.items() if not effective >> bit & 1)


def account(name: str) -> User | None:
    """Return the user with this name; None if the operating system has no such user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def become(user: User) -> None:
    """Switch this process to *user*. Neither the process nor its children can become root later.

    Raises: OSError.
    """
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
