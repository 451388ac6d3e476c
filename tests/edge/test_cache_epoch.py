"""The generation: one number for all processes, and what HAProxy is told of it."""

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


class Admin:
    """HAProxy's admin socket: `told` holds what it was sent, `says` is what it answers."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.says = b"\n"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.told.append(connection.recv(1000).decode().strip())
                connection.sendall(self.says)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run directory that has begun."""
    cache_epoch.begin(tmp_path)
    return tmp_path


@pytest.fixture
def admin(run: Path) -> Iterator[Admin]:
    """HAProxy, there to be told."""
    listening = Admin(run / "admin.sock")
    yield listening
    listening.close()


def test_it_rises_for_everybody_and_is_told(run: Path, admin: Admin) -> None:
    """Whoever else has opened it sees the new number, and so does HAProxy."""
    here, there = CacheEpoch(run), CacheEpoch(run)
    here.increment()

    assert there.now() == here.now() == "0000000002"
    assert admin.told == [f"set map {run}/generation generation 0000000002"]


def test_nobody_is_told_an_older_number_after_a_newer_one(run: Path, admin: Admin) -> None:
    """Many raise it at once, in threads and in forked processes: each number is told, in order."""
    fork = multiprocessing.get_context("fork")
    here = CacheEpoch(run)
    here.now()
    workers: list[ForkProcess | threading.Thread] = [
        fork.Process(target=_rise, args=(here, 10)),
        fork.Process(target=_rise, args=(here, 10)),
        threading.Thread(target=_rise, args=(here, 10)),
        threading.Thread(target=_rise, args=(here, 10)),
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()

    assert [line.split()[-1] for line in admin.told] == [f"{n:010}" for n in range(2, 42)]


def test_what_could_not_be_told_is_told_later(run: Path) -> None:
    """HAProxy may be starting: it may have read the file already, and does not listen yet."""
    here = CacheEpoch(run)
    here.increment()
    here.increment()
    admin = Admin(run / "admin.sock")

    here.retry()
    here.retry()
    admin.close()
    assert admin.told == [f"set map {run}/generation generation 0000000003"]


def test_what_haproxy_refuses_is_not_told_yet(
    run: Path, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """It says why in words; somebody should look."""
    admin.says = b"Unknown map identifier.\n"
    here = CacheEpoch(run)
    here.increment()
    admin.says = b"\n"
    here.retry()

    assert len(admin.told) == 2
    assert [each.getMessage() for each in caplog.records] == ["HAProxy rejected the cache epoch"]


def test_what_is_no_run_directory_is_an_error(tmp_path: Path) -> None:
    """Where nobody serves nobody remembers."""
    with pytest.raises(FileNotFoundError):
        CacheEpoch(tmp_path)


def _rise(here: CacheEpoch, times: int) -> None:
    for _ in range(times):
        here.increment()
