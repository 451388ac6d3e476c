"""`entrepot healthy` is the health check of the container image.

The container engine runs `entrepot healthy` every few seconds, so it reads no configuration: it
searches the temporary folder for the run directory that `entrepot serve` creates there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.run_names import FRONT_SOCKET, PREFIX
from entrepot.runtime.unix_http import status_of

_TIMEOUT_S = 4.0
_OK = 200


def healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0 if an appliance answers through HAProxy and a worker, else 1."""
    del argv, environ
    sockets = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{FRONT_SOCKET}"))
    _step_down(sockets)
    if any(status_of(socket, "/healthz", timeout=_TIMEOUT_S) == _OK for socket in sockets):
        return 0
    problem = "the appliance does not answer" if sockets else "no appliance runs here"
    print(f"entrepot healthy: {problem}", file=sys.stderr)  # noqa: T201 - an error message
    return 1


def _step_down(sockets: Sequence[Path]) -> None:
    """Become the user who owns the sockets, so that root follows no path that the user controls."""
    if os.geteuid() == 0 and sockets:
        owner = sockets[0].parent.lstat()
        with suppress(PermissionError):  # root without its capabilities
            os.setgroups([])  # root's other groups may open sockets that a link leads to
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
