"""The simulated line is as slow as it says, and loses nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from bench.cold import simulated
from bench.line import Line


def test_a_piece_is_through_after_its_bytes_and_the_delay() -> None:
    """1,000 bytes at 1,000 a second, and half a second of way."""
    assert Line(1000, 0.5).leaves(10.0, 1000, 0.0) == (11.5, 11.0)


def test_pieces_of_a_connection_follow_each_other() -> None:
    """What comes at once leaves one after the other; the way itself holds up nobody."""
    line = Line(1000, 0.5)
    first, busy = line.leaves(10.0, 500, 0.0)
    second, _ = line.leaves(10.0, 500, busy)

    assert (first, second) == (11.0, 11.5)


def test_a_line_that_was_idle_gives_no_credit() -> None:
    """The rate is no average: nobody saves bytes up."""
    assert Line(1000, 0.0).leaves(100.0, 1000, 1.0) == (101.0, 101.0)


def test_bytes_come_through_as_they_were_and_the_end_too() -> None:
    """Both ways, one of them closed before the other."""
    question, answer = b"q" * 200_000, b"a" * 300_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []
        server = threading.Thread(target=_answer, args=(listener, answer, seen))
        server.start()
        with simulated(listener.getsockname()[1]) as port:
            got = _ask(port, question)
        server.join()

    assert (seen, got) == ([question], answer)


def test_a_line_to_nobody_ends_its_connections() -> None:
    """A client hears of it at once instead of waiting for a time-out."""
    got = b""
    with simulated(1) as port, suppress(ConnectionError):  # closed, or even reset
        got = _ask(port, b"x")

    assert got == b""


def _answer(listener: socket.socket, answer: bytes, seen: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        seen.append(_all(connection))
        connection.sendall(answer)


def _ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return _all(connection)


def _all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
