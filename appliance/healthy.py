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
_READY = "--ready"


def healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0 if an appliance answers through HAProxy and a worker, else 1.

    With `--ready`, `healthy` also returns 1 while a check of `health:` fails. Without `--ready`,
    the result is for a liveness probe: a restart does not repair the cause of a failed check.
    """
    del environ
    sockets = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{FRONT_SOCKET}"))
    _step_down(sockets)
    alive = [
        socket for socket in sockets if status_of(socket, "/healthz", timeout=_TIMEOUT_S) == _OK
    ]
    if not alive:
        return _unhealthy(
            "the appliance does not answer" if sockets else "no appliance runs in this container"
        )
    failing = [_failing(socket.parent) for socket in alive] if _READY in argv else [{}]
    if all(failing):
        name, reason = next(iter(failing[0].items()))
        return _unhealthy(f"the health check {name} fails: {reason}")
    return 0


def _failing(run: Path) -> dict[str, str]:
    from entrepot.runtime.health import failing_checks  # noqa: PLC0415 - loads json

    return failing_checks(run)


def _unhealthy(problem: str) -> int:
    print(f"entrepot healthy: {problem}", file=sys.stderr)  # noqa: T201 - an error message
    return 1


def _step_down(sockets: Sequence[Path]) -> None:
    """Become the user that owns the sockets, so that root follows no path of that user."""
    if os.geteuid() == 0 and sockets:
        owner = sockets[0].parent.lstat()
        with suppress(PermissionError):  # Root has no capabilities here.
            # The other groups of root may open sockets to which a link of the user leads.
            os.setgroups([])
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
