"""The socket at which the other processes wake the cleaner."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.wake_socket import WakeSocket
from entrepot.datastore.budget import OVERHEAD

_AT_ONCE = 30.0
"""Seconds that a test would wait if nobody rang."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the bell hangs."""
    return tmp_path / "cleaner.sock"


@pytest.fixture
def wake(path: Path) -> Iterator[WakeSocket]:
    """Hang the bell."""
    with WakeSocket(path) as hung:
        yield hung


def _send(path: Path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message, str(path))


def test_who_rings_is_heard_at_once_with_what_it_needs(wake: WakeSocket, path: Path) -> None:
    """And what its row will cost beside it."""
    _send(path, b'{"needs": 1000}')

    assert wake.wait(_AT_ONCE) == 1000 + OVERHEAD


def test_all_who_rang_are_heard_together(wake: WakeSocket, path: Path) -> None:
    """One round makes room for all of them, and then none is left."""
    _send(path, b'{"needs": 1000}', b'{"needs": 0}', b'{"needs": 500}')

    assert wake.wait(_AT_ONCE) == 1500 + 2 * OVERHEAD
    assert wake.wait(0) == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"[]",
        b"not JSON",
        b"\xff\xfe",
        b'{"needs": null}',
        b'{"needs": -5}',
        b'{"needs": 1e999}',
        b"[" * 1000,
    ],
)
def test_what_can_not_be_read_is_a_hint(wake: WakeSocket, path: Path, message: bytes) -> None:
    """Somebody rang, and that is all that is known."""
    _send(path, message)

    assert wake.wait(_AT_ONCE) == 0


def test_nobody_rang(wake: WakeSocket) -> None:
    """The time is over, and nothing is needed."""
    assert wake.wait(0.001) == 0


def test_a_signal_wakes_who_waits(wake: WakeSocket) -> None:
    """However often it comes."""
    for _ in range(10_000):
        wake.ring()

    assert wake.wait(_AT_ONCE) == 0


def test_the_socket_of_a_dead_cleaner_is_replaced(path: Path) -> None:
    """It could not take it away."""
    dead = WakeSocket(path)

    with WakeSocket(path) as wake:
        _send(path, b'{"needs": 1}')

        assert wake.wait(_AT_ONCE) == 1 + OVERHEAD
    dead._socket.close()


def test_the_socket_goes_with_its_owner(path: Path) -> None:
    """Nothing stays in the run directory."""
    with WakeSocket(path):
        assert path.exists()

    assert not path.exists()
