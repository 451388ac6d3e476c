"""Workers wake the cleaner through a `WakeSocket`, which is a datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.wake_socket import WakeSocket
from entrepot.datastore.budget import OVERHEAD
from entrepot.runtime import run_names

_AT_ONCE = 30.0
"""A test waits at most this long (s) for a message."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the wake socket."""
    return tmp_path / run_names.WAKE_SOCKET


@pytest.fixture
def wake(path: Path) -> Iterator[WakeSocket]:
    """Yield the socket through which other processes wake the cleaner."""
    with WakeSocket(path) as hung:
        yield hung


def _send(path: Path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message, str(path))


def test_a_message_wakes_the_cleaner_with_the_bytes_needed(wake: WakeSocket, path: Path) -> None:
    """A message ends the wait, which returns the needed bytes plus the overhead of an index row."""
    _send(path, b'{"needs": 1000}')

    assert wake.wait(_AT_ONCE) == 1000 + OVERHEAD


def test_waiting_messages_are_summed(wake: WakeSocket, path: Path) -> None:
    """If several messages have arrived, the wait returns the sum of their bytes.

    So one round frees space for all downloads that have sent a message.
    """
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
def test_an_unreadable_message_counts_as_zero_bytes(
    wake: WakeSocket, path: Path, message: bytes
) -> None:
    """A malformed message ends the wait and counts as zero bytes."""
    _send(path, message)

    assert wake.wait(_AT_ONCE) == 0


def test_the_wait_ends_without_a_message(wake: WakeSocket) -> None:
    """If no message arrives, the wait ends after its time and returns 0."""
    assert wake.wait(0.001) == 0


def test_a_signal_handler_wakes_the_wait(wake: WakeSocket) -> None:
    """`ring`, which a signal handler can call, ends the wait, even if it is called very often."""
    for _ in range(10_000):
        wake.ring()

    assert wake.wait(_AT_ONCE) == 0


def test_the_socket_of_a_dead_cleaner_is_replaced(path: Path) -> None:
    """If a killed cleaner has left its socket, a new cleaner replaces it."""
    dead = WakeSocket(path)

    with WakeSocket(path) as wake:
        _send(path, b'{"needs": 1}')

        assert wake.wait(_AT_ONCE) == 1 + OVERHEAD
    dead._socket.close()


def test_closing_removes_the_socket(path: Path) -> None:
    """When the wake socket is closed, its file is removed."""
    with WakeSocket(path):
        assert path.exists()

    assert not path.exists()
