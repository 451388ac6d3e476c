"""A relay through which containers on a bridge network reach a server on loopback."""

from __future__ import annotations

import shutil
import socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Self


class Relay:
    """Accepts connections to `port` on all addresses, and forwards them to *target* on loopback."""

    def __init__(self, target: int) -> None:
        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", target)) as there:
                    back = Thread(target=_copy, args=(there, self.request))
                    back.start()
                    _copy(self.request, there)
                    back.join()

        self._server = ThreadingTCPServer(("0.0.0.0", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _copy(here: socket.socket, there: socket.socket) -> None:
    """Copy bytes from *here* to *there* until *here* ends; then close *there* for writing."""
    try:
        with here.makefile("rb", buffering=0) as source, there.makefile("wb", buffering=0) as sink:
            shutil.copyfileobj(source, sink)
        there.shutdown(socket.SHUT_WR)
    except OSError:
        here.close()
