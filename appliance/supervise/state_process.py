"""Start a process that writes the overall state when a reader requests the state.

The state is gathered in a child process (appliance/state_program.py), because the necessary modules
take 40 MB and are rarely used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from entrepot.runtime.run_names import STATE, STATE_REQUEST

_PROGRAM: Final = (sys.executable, "-P", "-m", "entrepot.appliance.state_program")


class StateProcess:
    """A `StateProcess` runs *program* while readers request the state of the appliance.

    *run* is the run directory, which is the last argument of *program*.
    """

    def __init__(self, run: Path, program: Sequence[str] = _PROGRAM) -> None:
        self._run = run
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        # The request file must exist, because the kernel can watch only existing files for changes.
        self._request = run / STATE_REQUEST
        self._request.touch()
        self._served = _written(self._request)

    def look(self) -> None:
        """Start the process if the state was requested, unless it already runs; never block."""
        asked = _written(self._request)
        if asked == self._served or self.is_running:
            return
        self._served = asked
        # If the state is newer than the request, the process that was started last has already
        # served the request.
        if asked > _written(self._run / STATE):
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*self._program, os.fspath(self._run)], stdin=subprocess.DEVNULL
            )

    def close(self) -> None:
        """Kill the process, so that it no longer writes into the run directory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None


def _written(path: Path) -> int:
    """Return the time of the last write to *path* in ns; 0 if the file does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
