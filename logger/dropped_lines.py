"""Read from HAProxy's admin socket how many log lines HAProxy has dropped."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

_ANSWER_BYTES = 64 * 1024
_TIMEOUT_S = 0.3


@dataclass(frozen=True, slots=True)
class DroppedLines:
    """A `DroppedLines` has the number of log lines that HAProxy has dropped.

    `raw` is the count of the current HAProxy process, whose id is `pid`. `total` is the sum over
    all processes so far.
    """

    pid: int = 0
    raw: int = 0
    total: int = 0

    def then(self, pid: int, raw: int) -> DroppedLines:
        """Return the updated numbers: the HAProxy process *pid* has reported the count *raw*.

        A new HAProxy process counts from 0, and so does a process whose counters were reset.
        """
        new = raw - self.raw if pid == self.pid and raw >= self.raw else raw
        return DroppedLines(pid, raw, self.total + new)

    def dump(self) -> str:
        """Return the count as a text, which the index stores and `load` parses."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None) -> DroppedLines:
        """Return the count in *text*, which `dump` returned; 0 if *text* is damaged or None."""
        try:
            return cls(**json.loads(text or "{}"))
        except (TypeError, ValueError):
            return cls()


def read_dropped(path: Path, before: DroppedLines) -> DroppedLines | None:
    """Return *before*, updated with HAProxy's current count of dropped lines.

    Return None if HAProxy does not respond.
    """
    try:
        info = _show_info(path)
        return before.then(int(info["Pid"]), int(info["DroppedLogs"]))
    except (OSError, KeyError, ValueError):
        return None


def _show_info(path: Path) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"show info\n")
        response = bytearray()
        while len(response) < _ANSWER_BYTES and (piece := connection.recv(4096)):
            response += piece
    lines = response.decode("latin-1").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
