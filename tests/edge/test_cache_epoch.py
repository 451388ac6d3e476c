"""Tests of the cache epoch, a number that invalidates HAProxy's cache entries when it rises."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from entrepot.edge import cache_epoch
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.runtime import run_names


class Admin:
    """An admin socket like HAProxy's, which records `commands` and sends `response`."""

    def __init__(self, path: Path) -> None:
        self.commands: list[str] = []
        self.response = b"\n"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Close the socket, so that the thread of the server ends."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.commands.append(connection.recv(1000).decode().strip())
                connection.sendall(self.response)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run directory with the first cache epoch."""
    cache_epoch.begin(tmp_path)
    return tmp_path


@pytest.fixture
def admin(run: Path) -> Iterator[Admin]:
    """Yield a listening admin socket."""
    listening = Admin(run / run_names.ADMIN_SOCKET)
    yield listening
    listening.close()


def test_an_increment_is_seen_by_all_processes_and_sent_to_haproxy(run: Path, admin: Admin) -> None:
    """When one process raises the cache epoch, all processes and HAProxy see the new number."""
    here, there = CacheEpoch(run), CacheEpoch(run)
    here.increment()

    assert there.now() == here.now() == "0000000002"
    assert admin.commands == [f"set map {run}/generation generation 0000000002"]


def test_concurrent_increments_reach_haproxy_in_order(run: Path, admin: Admin) -> None:
    """If threads and processes raise the epoch concurrently, HAProxy gets each number in order."""
    fork = multiprocessing.get_context("fork")
    here = CacheEpoch(run)
    here.now()
    workers: list[ForkProcess | threading.Thread] = [
        fork.Process(target=_increment, args=(here, 10)),
        fork.Process(target=_increment, args=(here, 10)),
        threading.Thread(target=_increment, args=(here, 10)),
        threading.Thread(target=_increment, args=(here, 10)),
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()

    assert [line.split()[-1] for line in admin.commands] == [f"{n:010}" for n in range(2, 42)]


def test_an_epoch_that_could_not_be_sent_is_sent_later(run: Path) -> None:
    """If HAProxy cannot be reached, for example while it starts, `retry` sends the epoch later."""
    here = CacheEpoch(run)
    here.increment()
    here.increment()
    admin = Admin(run / run_names.ADMIN_SOCKET)

    here.retry()
    here.retry()
    admin.close()
    assert admin.commands == [f"set map {run}/generation generation 0000000003"]


def test_a_rejected_epoch_is_logged_and_sent_again(
    run: Path, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """If HAProxy rejects a cache epoch, the reason is logged, and `retry` sends the epoch again."""
    admin.response = b"Unknown map identifier.\n"
    here = CacheEpoch(run)
    here.increment()
    admin.response = b"\n"
    here.retry()

    assert len(admin.commands) == 2
    assert [each.getMessage() for each in caplog.records] == ["HAProxy rejected the cache epoch"]


def test_a_folder_without_an_epoch_is_an_error(tmp_path: Path) -> None:
    """Opening the cache epoch of a folder that is not a run directory raises an error."""
    with pytest.raises(FileNotFoundError):
        CacheEpoch(tmp_path)


def _increment(here: CacheEpoch, times: int) -> None:
    for _ in range(times):
        here.increment()
