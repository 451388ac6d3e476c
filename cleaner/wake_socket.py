"""The socket at which the other processes wake the cleaner; `datastore.reservations` sends to it.

A message is a JSON object: `needs`, the bytes that a waiting download asks for, 0 for a mere hint.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from entrepot.datastore.budget import OVERHEAD

_LONGEST = 1024


class WakeSocket:
    """A datagram socket at *path*, ours alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def wait(self, seconds: float) -> int:
        """Return the bytes that all who rang will hold, together; 0 after so many s."""
        select.select([self._socket], [], [], seconds)
        return sum(_needs(message) for message in self._messages())

    def ring(self) -> None:
        """Wake whoever waits, from a signal handler too."""
        with suppress(OSError):  # it is full: then nobody sleeps
            ring(self._path)

    def close(self) -> None:
        """Take the socket away."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _messages(self) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while True:
                yield self._socket.recv(_LONGEST)


def ring(path: Path, needs: int = 0) -> None:
    """Wake whoever waits at *path*, for so many bytes. Raises: OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wake:
        wake.setblocking(False)
        wake.sendto(json.dumps({"needs": needs}).encode(), str(path))


def _needs(message: bytes) -> int:
    """Return what a download will hold, its row included; what can't be read is a mere hint."""
    try:
        needs = int(json.loads(message)["needs"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0
    return needs + OVERHEAD if needs > 0 else 0
