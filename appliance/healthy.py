"""`entrepot healthy`: whether the appliance of this container serves, for its engine to ask.

It is asked every few seconds, so it reads no configuration: it looks for the run directory where
`entrepot serve` makes it, in the temporary folder that both have.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.sockets import status_of

_PATIENCE = 4.0  # s
_OK = 200


def healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0 when an appliance answers through its HAProxy and a worker, else 1."""
    del argv, environ
    doors = sorted(Path(tempfile.gettempdir()).glob("entrepot-*/front.sock"))
    if any(status_of(door, "/healthz", timeout=_PATIENCE) == _OK for door in doors):
        return 0
    said = "it does not answer" if doors else "none runs here"
    print(f"entrepot healthy: {said}", file=sys.stderr)  # noqa: T201 - stderr is where this belongs
    return 1
