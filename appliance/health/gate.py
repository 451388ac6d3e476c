"""Make HAProxy close the API while health checks fail, and write the failing checks to a file.

HAProxy reads the state (open or closed) from a map, which this module changes through HAProxy's
admin socket. This module also writes the state to the file from which HAProxy loads the map at its
start, so that a restarted HAProxy has the right state.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.log_once import LogOnce
from entrepot.runtime.run_names import ADMIN_SOCKET, HEALTH, HEALTH_MAP
from entrepot.runtime.unix_socket import send_command

_log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_KEY: Final = "checks"
_OPEN: Final = "pass"
_CLOSED: Final = "fail"


def begin(run: Path) -> None:
    """Write the map file with the state "open". HAProxy reads the file when it starts."""
    (run / HEALTH_MAP).write_text(f"{_KEY} {_OPEN}\n", encoding="ascii")


class Gate:
    """A `Gate` closes the API of one appliance while a check fails."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._complaint = LogOnce(_log, "health not published", "health published again")

    def publish(self, failing: Mapping[str, str]) -> bool:
        """Write the failing checks to the file, and make HAProxy open or close the API.

        *failing* maps the name of each failing check to the reason of the failure. Return False if
        the caller must try again, because HAProxy is starting or the run directory cannot be
        written to.
        """
        state = _CLOSED if failing else _OPEN
        try:
            write_atomically(self._run / HEALTH, json.dumps(dict(failing)).encode())
            write_atomically(self._run / HEALTH_MAP, f"{_KEY} {state}\n".encode())
        except OSError as error:  # HAProxy gets the new state even if the file cannot be written.
            self._complaint.failed(error)
            return self._send(state) and False
        self._complaint.worked()
        return self._send(state)

    def _send(self, state: str) -> bool:
        command = f"set map {self._run / HEALTH_MAP} {_KEY} {state}"
        try:
            response = send_command(self._run / ADMIN_SOCKET, command, timeout=_TIMEOUT_S)
        except OSError:
            return False
        if response:
            _log.warning("HAProxy rejected the state of health", extra={"response": response})
        return not response
