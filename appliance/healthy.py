"""`entrepot healthy`: whether the appliance of this container serves, for its engine to ask.

It is asked every few seconds, so it reads no configuration: it looks for the run directory where
`entrepot serve` makes it, in the temporary folder that both have.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from entrepot.runtime.unix_http import status_of

_PATIENCE = 4.0  # s
_OK = 200


def healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0 when an appliance answers through its HAProxy and a worker, else 1."""
    del argv, environ
    doors = sorted(Path(tempfile.gettempdir()).glob("entrepot-*/front.sock"))
    _step_down(doors)
    if any(status_of(door, "/healthz", timeout=_PATIENCE) == _OK for door in doors):
        return 0
    said = "it does not answer" if doors else "none runs here"
    print(f"entrepot healthy: {said}", file=sys.stderr)  # noqa: T201 - stderr is where this belongs
    return 1


def _step_down(doors: Sequence[Path]) -> None:
    """Knock as the user whose doors they are: root follows no path that the user has laid."""
    if os.geteuid() == 0 and doors:
        owner = doors[0].parent.lstat()
        with suppress(PermissionError):  # root without its capabilities
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
