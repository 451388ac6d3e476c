"""The simulated line forwards TCP streams with a given rate and delay."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from bench.cold import simulated
from bench.line import Line


def test_a_chunk_arrives_after_its_transfer_time_and_the_delay() -> None:
    """At 1,000 bytes/s and with a delay of 0.5 s, a chunk of 1,000 bytes arrives after 1.5 s."""
    assert Line(1000, 0.5).leaves(10.0, 1000, 0.0) == (11.5, 11.0)


def test_chunks_of_a_connection_follow_each_other() -> None:
    """If two chunks are sent together, the second arrives one transfer time after the first."""
    line = Line(1000, 0.5)
    first, busy = line.leaves(10.0, 500, 0.0)
    second, _ = line.leaves(10.0, 500, busy)

    assert (first, second) == (11.0, 11.5)


def test_an_idle_line_saves_up_no_bytes() -> None:
    """After an idle time, a line transfers bytes no faster than at its rate."""
    assert Line(1000, 0.0).leaves(100.0, 1000, 1.0) == (101.0, 101.0)


def test_bytes_and_the_end_of_a_stream_are_forwarded() -> None:
    """Both directions of a stream are forwarded, even after one direction has ended.

    In this test, the client closes its direction before the server sends the response.
    """
    question, answer = b"q" * 200_000, b"a" * 300_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []
        server = threading.Thread(target=_answer, args=(listener, answer, seen))
        server.start()
        with simulated(listener.getsockname()[1]) as port:
            got = _ask(port, question)
        server.join()

    assert (seen, got) == ([question], answer)


def test_a_line_without_a_server_closes_its_connections() -> None:
    """If no server listens behind the line, the line immediately closes the client's connection."""
    got = b""
    with simulated(1) as port, suppress(ConnectionError):
        got = _ask(port, b"x")

    assert got == b""


def _answer(listener: socket.socket, answer: bytes, seen: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        seen.append(_all(connection))
        connection.sendall(answer)


def _ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return _all(connection)


def _all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
