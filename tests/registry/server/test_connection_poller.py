"""One thread, the poller, handles idle connections, closing connections and slow clients."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from entrepot.registry.server.connection_poller import ConnectionPoller
from entrepot.registry.server.delivery import LentConnection, Repeatable
from entrepot.registry.server.fileslice import FileSlice, Piece
from entrepot.registry.server.polled import ConnectionLimits, KeptConnection

CONTENT = os.urandom(1_000_000)


class Threads:
    """The threads and the clock of a worker.

    `limited` lists each limit that closed a connection.
    """

    def __init__(self) -> None:
        self.limited: list[str] = []
        self.now = 0.0

    def run(self, work: Callable[[], None]) -> None:
        """Run *work* in a new thread."""
        threading.Thread(target=work, daemon=True).start()

    def clock(self) -> float:
        """Return the time that the test has set."""
        return self.now

    def poller(self, **limits: float) -> ConnectionPoller:
        """Return a poller with the given *limits*, and with this object's threads and clock."""
        return ConnectionPoller(
            self.run,
            ConnectionLimits(**limits),  # type: ignore[arg-type]  # only numbers
            self.limited.append,
            clock=self.clock,
            tick=0.01,
        )


@pytest.fixture
def threads() -> Threads:
    """Return the threads and the clock of a worker."""
    return Threads()


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Yield the descriptor of an open file with `CONTENT`."""
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def all_of(connection: socket.socket) -> bytes:
    """Return all bytes that arrive at the client until the server closes the connection."""
    connection.settimeout(20)
    with connection, connection.makefile("rb") as file:
        return file.read()


def handed_over(poller: ConnectionPoller, pieces: Iterator[Piece], length: int) -> socket.socket:
    """Return the client's end of a connection over which the poller sends *pieces*."""
    ours, theirs = socket.socketpair()
    with ours:
        connection = LentConnection(ours, poller, patience=0)
        connection.deliver(pieces, length)
        assert connection.is_handed_over
    return theirs


def test_a_client_that_reads_late_gets_the_whole_body(threads: Threads, descriptor: int) -> None:
    """If a client reads slowly, the poller sends the rest of the file to the client.

    Afterwards the poller closes the connection.
    """
    poller = threads.poller()
    client = handed_over(poller, iter([FileSlice(descriptor, 0, 1_000_000)]), 1_000_000)

    assert all_of(client) == CONTENT


def test_a_thread_waits_for_the_next_piece_of_a_download(threads: Threads, descriptor: int) -> None:
    """A thread, not the poller, waits for the bytes of a body that are still being downloaded.

    The poller itself must not wait, because it also sends bytes to other connections.
    """
    more = threading.Event()

    def arriving() -> Iterator[Piece]:
        yield FileSlice(descriptor, 0, 600_000)
        assert more.wait(20)
        yield FileSlice(descriptor, 600_000, 999_999)
        yield CONTENT[-1:]

    poller = threads.poller()
    waiting = handed_over(poller, arriving(), 1_000_000)
    other = handed_over(poller, iter([FileSlice(descriptor, 0, 1_000_000)]), 1_000_000)

    assert waiting.recv(600_000, socket.MSG_WAITALL) == CONTENT[:600_000]
    assert all_of(other) == CONTENT
    more.set()
    assert all_of(waiting) == CONTENT[600_000:]


def test_a_response_that_fails_after_the_handover_is_cut_off(
    threads: Threads, descriptor: int
) -> None:
    """If the iterator of a body raises an error, the poller closes the connection."""
    closed = threading.Event()

    def broken() -> Iterator[Piece]:
        try:
            yield FileSlice(descriptor, 0, 900_000)
            raise OSError
        finally:
            closed.set()

    client = handed_over(threads.poller(), broken(), 1_000_000)

    assert all_of(client) == CONTENT[:900_000]
    assert closed.wait(20)


def test_the_pieces_are_closed_when_the_client_leaves(threads: Threads, descriptor: int) -> None:
    """If a client disconnects, the poller closes the iterator of the body.

    So no file stays open.
    """
    closed = threading.Event()

    def pieces() -> Iterator[Piece]:
        try:
            yield FileSlice(descriptor, 0, 1_000_000)
        finally:
            closed.set()

    handed_over(threads.poller(), pieces(), 1_000_000).close()

    assert closed.wait(20)


def test_the_slowest_reader_is_closed_only_above_the_limit(
    threads: Threads, descriptor: int
) -> None:
    """If too many clients read slowly, the poller disconnects the slowest client."""
    poller = threads.poller(readers=2, rate=10_000)
    with ExitStack() as stack:
        taking = [_slow(poller, descriptor, stack) for _ in range(2)]
        threads.now = 86_400
        for each in taking:
            assert len(each.recv(100_000, socket.MSG_WAITALL)) == 100_000
        assert threads.limited == []

        threads.now = 0
        _slow(poller, descriptor, stack)
        threads.now = 10
        _eventually(lambda: threads.limited)

    assert threads.limited == ["readers"]


def test_a_fast_reader_is_never_closed(threads: Threads, descriptor: int) -> None:
    """The poller never disconnects a client that reads faster than the lowest permitted rate.

    This holds for any number of clients.
    """
    poller = threads.poller(readers=0, rate=10_000)
    client = handed_over(poller, iter([FileSlice(descriptor, 0, 1_000_000)]), 1_000_000)
    assert len(client.recv(700_000, socket.MSG_WAITALL)) == 700_000
    threads.now = 10

    assert all_of(client) == CONTENT[700_000:]
    assert threads.limited == []


def test_a_slow_body_is_cut_only_above_the_limit(threads: Threads) -> None:
    """If more request bodies arrive than the limit permits, the poller cuts off a slow body.

    The thread that waits for this body wakes up, and the body's `is_cut` is True.
    """
    poller = threads.poller(bodies=1, rate=100)
    pairs = [socket.socketpair() for _ in range(2)]
    with ExitStack() as stack:
        for pair in pairs:
            for each in pair:
                stack.enter_context(each)
        slow = stack.enter_context(poller.watch_body(pairs[0][0]))
        threads.now = 1000
        fast = stack.enter_context(poller.watch_body(pairs[1][0]))
        pairs[0][0].settimeout(20)

        assert pairs[0][0].recv(1) == b""
        assert (slow.is_cut, fast.is_cut) == (True, False)
    assert threads.limited == ["bodies"]


def test_a_client_that_is_still_sending_can_read_its_response(threads: Threads) -> None:
    """A client can read a response that arrives before the client has sent its whole request.

    The poller reads the rest of the request before it closes the connection. Otherwise the kernel
    would reset the connection, and the response could be lost.
    """
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with ours, theirs:
        ours.sendall(b"refused")
        threads.poller().close_later(ours.dup(), 2, drain=10)
        ours.close()
        theirs.sendall(bytes(3_000_000))
        theirs.shutdown(socket.SHUT_WR)

        assert theirs.recv(100) == b"refused"
        assert theirs.recv(100) == b""


@pytest.mark.parametrize("drain", [0, 10])
def test_a_connection_that_the_client_does_not_close_is_closed_later(
    threads: Threads, drain: float
) -> None:
    """If a client does not close its connection after the last response, the poller closes it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with ours, theirs:
        threads.poller().close_later(ours.dup(), 2, drain)
        ours.close()
        threads.now = 11
        assert theirs.recv(1) == b""
        threads.now = 20
        _eventually(lambda: _is_gone(theirs))


def _is_gone(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"more")
    except ConnectionError:
        return True
    return False


def _slow(poller: ConnectionPoller, descriptor: int, stack: ExitStack) -> socket.socket:
    client = handed_over(poller, iter([FileSlice(descriptor, 0, 1_000_000)]), 1_000_000)
    client.settimeout(20)
    return stack.enter_context(client)


def _eventually(look: Callable[[], object]) -> None:
    waiting = threading.Event()
    for _ in range(400):
        if look():
            return
        waiting.wait(0.05)
    raise AssertionError("the condition is not true after 20 s")


REPEATED = b"GET /v2/a/blobs/sha256:1 HTTP/1.1\r\n\r\n"


class Kept:
    """An idle connection that a poller watches.

    `requests` contains the bytes that the poller passed to a thread; `closed` is set when the
    poller has closed the connection.
    """

    def __init__(self, poller: ConnectionPoller) -> None:
        self.requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.closed = threading.Event()
        self.client, self.server = socket.socketpair()
        self.client.settimeout(20)
        self._poller = poller
        self.keep()

    def keep(self) -> None:
        """Pass the connection to the poller, as a thread does after a response."""
        self._poller.keep(KeptConnection(self.server, self.requests.put, self.closed.set))

    def ask(self, size: int) -> bytes:
        """Send the request for which a response is stored; return *size* bytes of the body."""
        self.client.sendall(REPEATED)
        answer = self.client.makefile("rb")
        while answer.readline() != b"\r\n":
            pass
        return answer.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        assert self.closed.wait(20)  # the poller's thread closes the connection


def remembering(poller: ConnectionPoller, descriptor: int, size: int) -> ConnectionPoller:
    """Return *poller* with a stored response whose body is the first *size* bytes of a file."""
    parsed = {"RAW_URI": "/v2/a/blobs/sha256:1"}
    opened = Repeatable(size, lambda: os.fdopen(os.dup(descriptor), "rb", buffering=0))
    poller.repeats.keep(REPEATED, parsed, [("Content-Length", str(size))], opened)
    return poller


@pytest.mark.parametrize("size", [1, 1_000_000], ids=["small", "large"])
def test_an_idle_connection_gets_remembered_responses(
    threads: Threads, descriptor: int, size: int
) -> None:
    """The poller answers three equal requests on an idle connection with the stored response.

    The poller passes none of the requests to a thread.
    """
    poller = remembering(threads.poller(), descriptor, size)
    with Kept(poller) as kept:
        bodies = [kept.ask(size) for _ in range(3)]

        assert bodies == [CONTENT[:size]] * 3
        assert kept.requests.empty()


def test_a_thread_gets_any_other_request_with_its_connection(
    threads: Threads, descriptor: int
) -> None:
    """If no stored response matches a request, the poller passes the connection to a thread.

    The thread also receives the bytes that the poller has already read. Afterwards the poller reads
    no more bytes from this connection, until the thread returns the connection.
    """
    poller = remembering(threads.poller(), descriptor, 1)
    with Kept(poller) as kept:
        kept.client.sendall(b"GET /other")

        assert kept.requests.get(timeout=20) == b"GET /other"
        kept.client.sendall(REPEATED)
        kept.server.setblocking(True)
        assert kept.server.recv(4096) == REPEATED
        kept.keep()
        assert kept.ask(1) == CONTENT[:1]
        assert not kept.closed.is_set()


def test_an_idle_connection_is_closed_after_its_client(threads: Threads) -> None:
    """If a client closes an idle connection, the poller closes the worker's end and reports this.

    The worker needs this report, because it counts the open connections.
    """
    with Kept(threads.poller()) as kept:
        kept.client.close()

        assert kept.closed.wait(20)
        assert kept.server.fileno() == -1


def test_a_connection_is_not_idle_for_more_than_75_seconds(threads: Threads) -> None:
    """The poller closes a connection that was idle for more than 75 s.

    HAProxy closes its idle connections earlier, so the limit applies to other clients.
    """
    poller = threads.poller()
    with Kept(poller) as kept:
        threads.now = 76.0
        with Kept(poller):  # this connection wakes the poller, which checks all idle times
            assert kept.closed.wait(20)
        assert kept.client.recv(1) == b""


def test_an_error_of_one_connection_does_not_end_the_polling_thread(threads: Threads) -> None:
    """If the poller cannot pass a request to a thread, it closes only that connection.

    Other connections still work.
    """
    poller, handled, counted = threads.poller(), queue.Queue[bytes](), queue.Queue[str]()

    def fail(request: bytes) -> None:
        raise MemoryError(request)

    with ExitStack() as stack:
        clients = []
        for name, handle in (("first", fail), ("second", handled.put)):
            ours, theirs = socket.socketpair()
            clients.append(stack.enter_context(theirs))
            poller.keep(KeptConnection(ours, handle, lambda name=name: counted.put(name)))  # type: ignore[misc]
        clients[0].sendall(b"one")
        clients[0].settimeout(20)
        assert clients[0].recv(10) == b""
        assert counted.get(timeout=20) == "first"
        clients[1].sendall(b"two")

        assert handled.get(timeout=20) == b"two"
