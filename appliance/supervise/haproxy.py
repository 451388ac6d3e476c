"""Start HAProxy: `python -m entrepot.appliance.supervise.haproxy RUN CONFIGURATION`.

This program opens the pipes of the access log at the descriptors that haproxy.cfg names: stdout for
the first thread of HAProxy, and 7 to 9 for the second to the fourth. Then it waits until a registry
worker responds, and replaces itself by HAProxy. HAProxy considers a worker alive until the first
health check of that worker. So without the wait, HAProxy would send requests to workers that do not
listen yet, and clients would get a 503.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from entrepot.appliance.supervise import log_pipe
from entrepot.appliance.supervise.parent_death_signal import execute
from entrepot.runtime.polling import poll
from entrepot.runtime.run_names import WORKER_SOCKETS
from entrepot.runtime.unix_socket import status_of

# After this many seconds HAProxy starts even if no worker responds; then clients get a 503.
_TIMEOUT_S = 15.0
_PAUSE = 0.02
_DESCRIPTORS = (1, 7, 8, 9)  # The file descriptor of each thread's pipe.
_OK = 200


def main() -> None:
    """Wait until a worker responds, then execute HAProxy. Raises: OSError."""
    run, configuration = map(Path, sys.argv[1:])
    threads = int(os.environ["ENTREPOT_THREADS"])
    for thread, descriptor in enumerate(_DESCRIPTORS[:threads], start=1):
        log_pipe.redirect(run, descriptor, thread)
    poll(lambda: _does_a_worker_answer(run) or None, _TIMEOUT_S, _PAUSE)
    # HAProxy runs without a master process (option -W): a master loses signals that arrive while it
    # starts, and the admin socket can replace certificates without a master.
    execute(["haproxy", "-db", "-f", os.fspath(configuration)])


def _does_a_worker_answer(run: Path) -> bool:
    sockets = run.glob(WORKER_SOCKETS)
    return any(status_of(each, "/healthz", timeout=1.0) == _OK for each in sockets)


if __name__ == "__main__":
    main()
