"""Becomes HAProxy: `python -m entrepot.appliance.supervise.haproxy RUN CONFIGURATION`.

Its stdout is the pipe of the access log. Before it becomes HAProxy it waits until a worker answers:
HAProxy takes every server for alive until its first check, and would answer 503 meanwhile.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from entrepot.appliance.supervise import log_pipe
from entrepot.appliance.supervise.parent_death_signal import become
from entrepot.runtime.unix_http import status_of

_PATIENCE = 15.0  # s; after that the door opens all the same and says 503
_PAUSE = 0.02
_STDOUT = 1
_OK = 200


def main(run: Path, configuration: Path) -> None:
    """Wait for a worker, then become HAProxy. Raises: OSError."""
    log_pipe.write_as(run, _STDOUT)
    deadline = time.monotonic() + _PATIENCE
    while not _somebody_answers(run) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    # no master process (-W): it loses a signal that comes while it starts, and the admin socket
    # can change a certificate without it
    become(["haproxy", "-db", "-f", os.fspath(configuration)])


def _somebody_answers(run: Path) -> bool:
    sockets = run.glob("worker*.sock")
    return any(status_of(each, "/healthz", timeout=1.0) == _OK for each in sockets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
