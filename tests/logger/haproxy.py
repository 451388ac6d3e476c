"""Provide an admin socket like HAProxy's, which responds to `show info`."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Self


class Admin:
    """Serve the socket *path* in a thread.

    `pid` and `dropped` are values in the response.
    """

    def __init__(self, path: Path) -> None:
        self.pid = 100
        self.dropped = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                assert connection.recv(100) == b"show info\n"
                response = f"Name: HAProxy\nPid: {self.pid}\nDroppedLogs: {self.dropped}\n\n"
                connection.sendall(response.encode())
