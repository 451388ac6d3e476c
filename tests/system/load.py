"""Clients that send requests in threads while a test kills programs of the appliance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Load:
    """Threads that call *run* repeatedly, with the thread's number, until the `with` block ends."""

    def __init__(self, clients: int, run: Callable[[int], None]) -> None:
        self.ended = threading.Event()
        self._run = run
        self._threads = [threading.Thread(target=self._repeat, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(timeout=90)
            assert not thread.is_alive(), "a request hangs"

    def pause(self) -> None:
        """Wait 20 ms before the next request: a killed program may not have restarted yet."""
        self.ended.wait(0.02)

    def _repeat(self, number: int) -> None:
        while not self.ended.is_set():
            self._run(number)
