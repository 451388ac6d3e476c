"""How many lines HAProxy could not write, asked on its admin socket."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

_ANSWER_BYTES = 64 * 1024
_TIMEOUT_S = 0.3


@dataclass(frozen=True, slots=True)
class Dropped:
    """`total` lines, over every HAProxy that ran; `raw` of them in the process `pid`."""

    pid: int = 0
    raw: int = 0
    total: int = 0

    def then(self, pid: int, raw: int) -> Dropped:
        """Go on with what HAProxy says now: another process, or a reset, counts from 0 again."""
        new = raw - self.raw if pid == self.pid and raw >= self.raw else raw
        return Dropped(pid, raw, self.total + new)

    def dump(self) -> str:
        """Return what `load` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None) -> Dropped:
        """Return what was dumped, or a beginning."""
        try:
            return cls(**json.loads(text or "{}"))
        except (TypeError, ValueError):
            return cls()


def ask(path: Path, before: Dropped) -> Dropped | None:
    """Return how things went on since *before*; None while HAProxy does not answer."""
    try:
        said = _show_info(path)
        return before.then(int(said["Pid"]), int(said["DroppedLogs"]))
    except (OSError, KeyError, ValueError):
        return None


def _show_info(path: Path) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"show info\n")
        said = bytearray()
        while len(said) < _ANSWER_BYTES and (piece := connection.recv(4096)):
            said += piece
    lines = said.decode("latin-1").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
