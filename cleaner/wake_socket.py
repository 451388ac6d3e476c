"""Receive messages from the workers on the wake socket, a datagram socket.

A message is a JSON object with the key `needs`: the number of bytes that a waiting download needs,
or 0 to only start a round. Workers send these messages with `datastore.reservations`.
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
    """A `WakeSocket` is a datagram socket at *path*, from which only this process reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def wait(self, seconds: float) -> int:
        """Wait up to *seconds* for a message; return the sum of the bytes that messages request."""
        select.select([self._socket], [], [], seconds)
        return sum(_needs(message) for message in self._messages())

    def ring(self) -> None:
        """Wake the thread that waits in `wait`; a signal handler can call this method too."""
        # If the socket is full, its messages wake the thread anyway.
        with suppress(OSError):
            ring(self._path)

    def close(self) -> None:
        """Close the socket and remove its file."""
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
    """Wake the cleaner whose wake socket is *path*, so that it frees *needs* bytes.

    Raises: OSError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(json.dumps({"needs": needs}).encode(), str(path))


def _needs(message: bytes) -> int:
    """Return the bytes that a download and its row in the index need; 0 for a malformed message."""
    try:
        needs = int(json.loads(message)["needs"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0
    return needs + OVERHEAD if needs > 0 else 0
