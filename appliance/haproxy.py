"""Becomes HAProxy: `python -m appliance.haproxy RUN CONFIGURATION`.

Before that it enlarges the pipe of the access log, for supervisord may be late and a line that
finds the pipe full is lost, and it waits until a worker answers: HAProxy takes every server for
alive until its first check, and would answer 503 meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from appliance.sockets import status_of
from appliance.tether import become

_LOG_PIPE_BYTES = 1024 * 1024  # what a plain user may ask for
_PATIENCE = 15.0  # s; after that the door opens all the same and says 503
_PAUSE = 0.02
_STDOUT = 1
_OK = 200


def main(run: Path, configuration: Path) -> None:
    """Wait for a worker, then become HAProxy. Raises: OSError."""
    with suppress(OSError):  # no pipe (started by hand), or none to spare: then it is small
        fcntl.fcntl(_STDOUT, fcntl.F_SETPIPE_SZ, _LOG_PIPE_BYTES)
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
