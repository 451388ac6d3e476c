"""A port of loopback that does not respond, because its queue of new connections is full."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Self

_ENOUGH = 8  # Linux accepts one or two connections more than the backlog of a listener


class BlackHole:
    """A URL whose port does not respond to a connection, as if a firewall dropped the packets."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        for _ in range(_ENOUGH):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(self._listener.getsockname())
            self._waiting.append(filler)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()

    @property
    def url(self) -> str:
        """Return the URL of the port."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"
