"""Check whether the appliance responds: `entrepot healthy`, the health check of the image.

The container engine runs this command every few seconds, so the command reads no configuration. It
searches the temporary folder for the run directory that `entrepot serve` creates there.

PERF: the imports of pathlib, tempfile and http.client would double the CPU time of the command. So
paths are plain texts here, and this module imports only modules that load within 2 ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from entrepot.runtime.run_names import FRONT_SOCKET, PREFIX
from entrepot.runtime.unix_socket import status_of

_TIMEOUT_S = 4.0
_OK = 200
_READY = "--ready"
_FOLDERS = ("TMPDIR", "TEMP", "TMP")  # These variables can name the temporary folder.
_USUAL_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108 - only looked at


def healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0 if a worker of an appliance responds through HAProxy, else 1.

    With `--ready`, also return 1 while a check of `health:` fails. Without `--ready`, the command
    is a liveness probe, whose failure restarts the container. Such a probe ignores the checks of
    `health:`, because a restart would not remove the cause of their failure.
    """
    sockets = _sockets(_temporary_folder(environ))
    _step_down(sockets)
    alive = [
        socket for socket in sockets if status_of(socket, "/healthz", timeout=_TIMEOUT_S) == _OK
    ]
    if not alive:
        return _unhealthy(
            "the appliance does not respond" if sockets else "no appliance runs in this container"
        )
    failing = [_failing(_folder(socket)) for socket in alive] if _READY in argv else [{}]
    if all(failing):
        name, reason = next(iter(failing[0].items()))
        return _unhealthy(f"the health check {name} fails: {reason}")
    return 0


def _temporary_folder(environ: Mapping[str, str]) -> str:
    """Return the same folder as `tempfile.gettempdir`, but without writing a test file into it."""
    named = [environ[each] for each in _FOLDERS if environ.get(each)]
    usable = (each for each in (*named, *_USUAL_FOLDERS) if os.access(each, os.W_OK | os.X_OK))
    return next(usable, os.curdir)


def _sockets(folder: str) -> list[str]:
    """Return the path of HAProxy's front socket in each run directory below *folder*."""
    with suppress(OSError):
        runs = sorted(each for each in os.listdir(folder) if each.startswith(PREFIX))  # noqa: PTH208
        paths = [f"{folder}/{run}/{FRONT_SOCKET}" for run in runs]
        return [path for path in paths if os.path.lexists(path)]
    return []


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _failing(run: str) -> dict[str, str]:
    from pathlib import Path  # noqa: PLC0415 - see the module's docstring

    from entrepot.runtime.health import failing_checks  # noqa: PLC0415 - loads json

    return failing_checks(Path(run))


def _unhealthy(problem: str) -> int:
    print(f"entrepot healthy: {problem}", file=sys.stderr)  # noqa: T201 - an error message
    return 1


def _step_down(sockets: Sequence[str]) -> None:
    """Become the user that owns the run directory.

    That user could put a symlink into it, and root would connect to the socket to which the symlink
    points.
    """
    if os.geteuid() == 0 and sockets:
        owner = os.lstat(_folder(sockets[0]))
        # A container may run root without the capabilities to become another user.
        with suppress(PermissionError):
            # Also drop root's groups. Otherwise a symlink of the user could lead to a socket that
            # only these groups may open.
            os.setgroups([])
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
