"""A worker's threads handle requests, wait briefly for the next request, and repeat responses."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from entrepot.registry.api.response_body import checked_stream
from entrepot.registry.server.delivery import CONNECTION, Repeatable, RepeatableBytes
from entrepot.registry.server.fileslice import FileSlice, Piece
from entrepot.registry.server.repeats import Repeats
from entrepot.registry.server.worker import MAX_WAITING_THREADS, KeepAliveWorker, _Connection
from tests.registry.benches import eventually

_ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_ASK_LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class _LongWaiting(KeepAliveWorker):
    keepalive_wait_s = 20
    close_wait_s = 0


class _NotWaiting(KeepAliveWorker):
    keepalive_wait_s = 0
    close_wait_s = 0


def _app(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return []


@contextmanager
def _worker(kind: type[KeepAliveWorker]) -> Iterator[Any]:
    cfg = Config()
    cfg.set("threads", 4)
    worker = kind(1, os.getpid(), [], _app, 30, cfg, Logger(cfg))
    worker.wsgi = _app
    try:
        yield worker
    finally:
        worker.tmp.close()


@contextmanager
def _connection(worker: Any) -> Iterator[tuple[socket.socket, Any]]:
    """Yield the client's end and the worker's end of a connection on which bytes have arrived.

    Gunicorn marks such a connection with `data_ready`.
    """
    client, server = socket.socketpair(socket.AF_UNIX)
    with client, server:
        client.settimeout(20)
        conn = TConn(worker.cfg, server, "", "worker.sock")
        conn.data_ready = True
        yield client, conn


def _started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _pieces(file: BinaryIO) -> Iterator[Piece]:
    with file:
        yield FileSlice(file.fileno(), 0, 1_000_000)


def _chunks(client: socket.socket) -> bytes:
    """Read a response until its connection closes; return the body without chunk headers."""
    with client.makefile("rb") as answer:
        head, body = answer.read().split(b"\r\n\r\n", 1)
    assert b"transfer-encoding: chunked" in head.lower()
    found = b""
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size, 16)
        found, end, body = found + body[:length], body[length : length + 2], body[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert body == b""
            return found


def test_a_request_that_follows_soon_is_handled_by_the_same_thread() -> None:
    """If a client sends its next request soon, the same thread handles that request."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        answers = []

        def ask() -> None:
            for request in (_ASK, _ASK, _ASK_LAST):
                client.sendall(request)
                answers.append(client.recv(4096)[:12])

        asking = _started(ask)
        kept = worker.handle(conn)
        asking.join(20)

    assert kept is False
    assert answers == [b"HTTP/1.1 200"] * 3


def test_a_closed_connection_ends_the_wait() -> None:
    """After a client has closed its connection, no thread waits for another request on it."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK)
        client.shutdown(socket.SHUT_WR)

        assert worker.handle(conn) is False


def test_an_idle_connection_returns_to_the_polling_thread() -> None:
    """If no request follows soon, the thread passes the connection to gunicorn's polling thread.

    Afterwards the thread can handle requests of other connections.
    """
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        kept = []
        for _ in range(MAX_WAITING_THREADS + 1):
            client.sendall(_ASK)
            kept.append(worker.handle(conn))

        assert kept == [True] * (MAX_WAITING_THREADS + 1)
        assert len(worker._waiting_slots) == MAX_WAITING_THREADS


def test_only_a_connection_without_a_request_wakes_the_worker_each_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker with idle connections wakes up no more often than a worker without connections.

    Only a new connection that has sent nothing wakes the worker each second, because the worker
    must close such a connection in time.
    """
    waits: list[float] = []
    monkeypatch.setattr(
        ThreadWorker, "wait_for_and_dispatch_events", lambda _, timeout: waits.append(timeout)
    )
    with _worker(KeepAliveWorker) as worker, _connection(worker) as (_, conn):
        worker.nr_conns = 1
        worker.wait_for_and_dispatch_events(1.0)
        worker.pending_conns.append(conn)
        worker.wait_for_and_dispatch_events(1.0)
        worker.pending_conns.clear()
        worker.alive = False
        worker.wait_for_and_dispatch_events(0.5)

    assert waits == [KeepAliveWorker.idle_s, 1.0, 0.5]


@pytest.mark.timeout(15)
def test_a_thread_does_not_wait_if_all_slots_are_taken() -> None:
    """If enough threads already wait for their next request, another thread does not wait.

    Otherwise idle connections would occupy all threads of the worker.
    """
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        worker._waiting_slots.clear()
        client.sendall(_ASK)

        assert worker.handle(conn) is True


@pytest.mark.timeout(15)
def test_a_thread_does_not_wait_if_bytes_were_already_read() -> None:
    """If a thread has already read a part of the next request, it does not wait for the socket.

    The bytes of that request are in memory already, so the socket might never become readable.
    Gunicorn parses these bytes next.
    """
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK + _ASK)

        assert worker.handle(conn) is True
        assert conn.parser.unreader.buf.getvalue() == _ASK


@pytest.mark.timeout(15)
def test_a_stopping_worker_does_not_wait() -> None:
    """After SIGTERM, a thread closes its connection without waiting for another request."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        worker.alive = False
        client.sendall(_ASK)

        assert worker.handle(conn) is False
        assert b"\r\nConnection: close\r\n" in client.recv(4096)


def test_no_thread_waits_for_a_peer_to_close_the_connection() -> None:
    """After the last response, a worker closes the connection without waiting for the client.

    Otherwise gunicorn's polling thread would wait two seconds for the client and delay all other
    clients.
    """
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK_LAST)

        assert worker.handle(conn) is False
        assert conn.sock.fileno() == -1
        conn.close(graceful=True)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert client.recv(4096) == b""


def test_a_slow_reader_occupies_no_thread(tmp_path: Path) -> None:
    """A client that reads slowly occupies no thread and still gets the whole body."""
    content = os.urandom(1_000_000)
    (tmp_path / "content").write_bytes(content)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        lent = environ[CONNECTION]
        lent.patience = 0
        start_response("200 OK", [("Content-Length", "1000000")])
        file = (tmp_path / "content").open("rb")
        return checked_stream(_pieces(file), 1_000_000, lent)

    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        worker.wsgi = worker.lend_connections(app)
        worker.tpool = worker.get_thread_pool()
        client.sendall(_ASK)

        assert worker.handle(conn) is False
        assert conn.sock.fileno() == -1
        conn.close(graceful=True)
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"\r\n\r\n" + content)


@pytest.mark.parametrize("patience", [0, 20], ids=["a slow reader", "a fast reader"])
def test_a_body_of_unknown_length_occupies_no_thread(tmp_path: Path, patience: float) -> None:
    """The poller can send a body of unknown length in chunks, so that the body occupies no thread.

    The poller also sends the last chunk, so gunicorn adds none.
    """
    content = os.urandom(1_000_000)
    (tmp_path / "content").write_bytes(content)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        environ[CONNECTION].patience = patience
        start_response("200 OK", [])
        pieces = chain([b"first", b""], _pieces((tmp_path / "content").open("rb")), [b"last"])
        return checked_stream(pieces, None, environ[CONNECTION])

    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        worker.wsgi = worker.lend_connections(app)
        worker.tpool = worker.get_thread_pool()
        client.sendall(_ASK)
        got: list[bytes] = []
        reading = threading.Thread(target=lambda: got.append(_chunks(client)))
        if patience:
            reading.start()

        assert worker.handle(conn) is False  # up to this point, the slow reader has read nothing
        assert conn.sock.fileno() == -1
        if not patience:
            reading.start()
        reading.join(20)

    assert got == [b"first" + content + b"last"]


def test_an_incomplete_chunked_body_has_no_last_chunk(tmp_path: Path) -> None:
    """If a file is too short for its chunk, the server sends no last chunk.

    So the client sees that the body is incomplete. A chunk never contains bytes of two pieces.
    """
    (tmp_path / "content").write_bytes(b"x" * 10)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return checked_stream(_pieces((tmp_path / "content").open("rb")), None, environ[CONNECTION])

    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        worker.wsgi = worker.lend_connections(app)
        client.sendall(_ASK)

        assert worker.handle(conn) is False
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"\r\n\r\nf4240\r\n" + b"x" * 10)


def test_a_lost_connection_does_not_raise() -> None:
    """If a client disconnects in the middle of a request, the thread raises no error."""
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(b"GET")
        client.close()

        assert worker.handle(conn) is False


@pytest.mark.parametrize("shortage", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_worker_without_free_descriptors_accepts_the_connection_later(shortage: int) -> None:
    """Without a free file descriptor or memory, a worker accepts a new connection later.

    The worker does not exit.
    """
    client, server = socket.socketpair()
    listener = _Listener([OSError(shortage, os.strerror(shortage))], server)
    with client, server, _worker(KeepAliveWorker) as worker:
        accepted: list[Any] = []
        worker.nr_conns = 0
        worker.enqueue_req = accepted.append

        worker.accept(listener)
        assert (worker.nr_conns, accepted) == (0, [])

        worker.accept(listener)
        assert worker.nr_conns == len(accepted) == 1


def test_a_broken_listener_ends_the_worker() -> None:
    """A worker whose listening socket is broken exits, and the arbiter starts another worker."""
    with _worker(KeepAliveWorker) as worker, pytest.raises(OSError, match="Bad file"):
        worker.accept(_Listener([OSError(errno.EBADF, os.strerror(errno.EBADF))]))


class _Listener:
    """A listening socket; `accept` raises each of *errors* once and then returns *connection*."""

    def __init__(self, errors: list[OSError], connection: socket.socket | None = None) -> None:
        self._errors = errors
        self._connection = connection

    def accept(self) -> tuple[socket.socket | None, str]:
        if self._errors:
            raise self._errors.pop()
        return self._connection, ""

    def getsockname(self) -> str:
        return ""


class _CountingSocket(socket.socket):
    """A socket that counts the changes of its blocking mode and its timeout."""

    changes = 0

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of a socket
        self.changes += 1
        super().setblocking(flag)

    def settimeout(self, value: float | None, /) -> None:
        self.changes += 1
        super().settimeout(value)


def test_a_request_without_a_body_has_no_rest_to_be_read() -> None:
    """If a request has no body, the thread does not try to read unread bytes of a body.

    The attempt would set a timeout with a system call, and after the call the thread would have to
    wait for Python's interpreter lock.
    """
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        conn.sock = _CountingSocket(fileno=conn.sock.detach())
        # one change for each request, and one for the parser that the first request creates
        for changes in (2, 3, 4):
            client.sendall(_ASK)
            assert worker.handle(conn) is True
            assert conn.sock.changes == changes
        conn.sock.close()


def test_a_body_that_the_application_does_not_read_is_not_the_next_request() -> None:
    """If the application does not read a whole request body, the server discards the rest.

    Otherwise the server would parse these bytes as the next request.
    """
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    asked: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        asked.append(environ["RAW_URI"])
        return _app(environ, start_response)

    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        worker.wsgi = app
        for head in (
            b"POST /sized HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
            b"POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
            _ASK,
        ):
            client.sendall(head)
            assert worker.handle(conn) is True

    assert asked == ["/sized", "/chunked", "/"]


def test_the_blocking_mode_of_a_connection_is_set_only_if_it_changes() -> None:
    """A connection sets the blocking mode of its descriptor only if the mode changes."""
    client, accepted = socket.socketpair(socket.AF_UNIX)
    descriptor = accepted.fileno()
    with client, _Connection.taken_over(accepted) as connection:
        modes = [(connection.fileno(), connection.gettimeout(), os.get_blocking(descriptor))]
        for flag in (True, True, False, False, True):
            connection.setblocking(flag)
            modes.append(
                (connection.fileno(), connection.gettimeout(), os.get_blocking(descriptor))
            )

    blocks, does_not = (descriptor, None, True), (descriptor, 0.0, False)
    assert modes == [does_not, blocks, blocks, does_not, does_not, blocks]


BLOBS = "blobs1.sock"


class _BlobApplication:
    """A WSGI application that permits its response to be repeated and records its requests."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"content")
        self._path = path
        self.requests: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        self.requests.append(environ["RAW_URI"])
        environ[CONNECTION].repeatable = Repeatable(7, lambda: self._path.open("rb", buffering=0))
        start_response("200 OK", [("Content-Length", "7")])
        return [b"content"]


@contextmanager
def _main_thread(worker: Any) -> Iterator[None]:
    """Run a thread that replaces gunicorn's main thread.

    The thread makes the calls that other threads queue for the main thread.
    """
    worker.method_queue.init()
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            select.select([worker.method_queue.fileno()], [], [])
            worker.method_queue.run_callbacks(None)

    thread = _started(run)
    try:
        yield
    finally:
        ended.set()
        worker.method_queue.defer(lambda: None)
        thread.join(20)


@contextmanager
def _blob_connection(worker: Any, app: _BlobApplication) -> Iterator[socket.socket]:
    """Yield the client's end of a connection to the worker's socket for requests of blobs."""
    worker.wsgi = worker.lend_connections(app)
    worker.blobs_socket = BLOBS
    with _connection(worker) as (client, conn), _main_thread(worker):
        conn.server = BLOBS
        worker.enqueue_req(conn)
        yield client
        worker._blob_threads.shutdown()


def _answer(client: socket.socket, request: bytes) -> bytes:
    """Send *request*, and return the body of its response."""
    client.sendall(request)
    answer = b""
    while not answer.endswith(b"content"):
        received = client.recv(4096)
        assert received
        answer += received
    return answer.partition(b"\r\n\r\n")[2]


def test_an_equal_request_for_a_blob_does_not_call_the_application(tmp_path: Path) -> None:
    """The poller answers equal requests for a blob without calling the application."""
    app = _BlobApplication(tmp_path / "blob")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        bodies = [_answer(client, _ASK) for _ in range(5)]

        assert bodies == [b"content"] * 5
        assert app.requests == ["/"] * 2


class _DownloadApplication(_BlobApplication):
    """A WSGI application that does not permit its response to be repeated."""

    def __call__(self, _: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        self.requests.append(threading.current_thread().name)
        start_response("200 OK", [("Content-Length", "7")])
        return [b"content"]


def test_after_a_download_the_thread_waits_for_the_next_blob(tmp_path: Path) -> None:
    """After a thread has sent a response that cannot be repeated, it waits for the next request.

    If the poller waited for this request, it would have to wake another thread to handle it.
    """
    app = _DownloadApplication(tmp_path / "blob")
    with _worker(_LongWaiting) as worker, _blob_connection(worker, app) as client:
        bodies = [_answer(client, _ASK) for _ in range(3)]
        polling = worker.connection_poller._thread
        client.close()

        assert bodies == [b"content"] * 3
        assert len(set(app.requests)) == 1
        assert polling is None


def test_a_stopping_worker_closes_a_connection_for_blobs_after_its_next_response(
    tmp_path: Path,
) -> None:
    """After SIGTERM a worker sends one more response on each connection.

    That response has the header `Connection: close`.
    """
    app = _BlobApplication(tmp_path / "blob")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        for _ in range(3):
            _answer(client, _ASK)
        worker.handle_exit(signal.SIGTERM, None)
        client.sendall(_ASK)
        with client.makefile("rb") as file:
            answer = file.read()

        assert b"connection: close\r\n" in answer.lower()
        assert answer.endswith(b"content")


def test_different_requests_for_blobs_call_the_application(tmp_path: Path) -> None:
    """If three requests differ in one header, the application is called for each request."""
    app = _BlobApplication(tmp_path / "blob")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        for number in range(3):
            _answer(client, _ASK.replace(b"Host: x", b"Host: x%d" % number))

        assert app.requests == ["/"] * 3


@pytest.mark.timeout(15)
def test_pipelined_requests_for_blobs_each_get_a_response(tmp_path: Path) -> None:
    """If a client sends two requests at once, gunicorn parses them, and both get a response.

    Neither of them gets a stored response.
    """
    app = _BlobApplication(tmp_path / "blob")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        for _ in range(3):
            _answer(client, _ASK)
        client.sendall(_ASK + _ASK)
        answers = b""
        while answers.count(b"content") < 2:
            answers += client.recv(4096)

        assert app.requests == ["/"] * 4
        assert [_answer(client, _ASK) for _ in range(3)] == [b"content"] * 3


def test_a_request_for_a_blob_with_a_body_is_not_repeated(tmp_path: Path) -> None:
    """A GET with a body never gets a stored response.

    The poller does not read such a body, so the body would be parsed as the next request.
    """
    app = _BlobApplication(tmp_path / "blob")
    request = _ASK.replace(b"Host: x", b"Host: x\r\nContent-Length: 5")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        for _ in range(3):
            client.sendall(request)
            _answer(client, b"12345")

        assert app.requests == ["/"] * 3


@pytest.mark.timeout(15)
def test_a_closed_connection_for_blobs_is_counted_by_the_main_thread(tmp_path: Path) -> None:
    """If the poller closes a connection, the main thread lowers gunicorn's count of connections."""
    app = _BlobApplication(tmp_path / "blob")
    with _worker(_NotWaiting) as worker, _blob_connection(worker, app) as client:
        worker.nr_conns = 1
        _answer(client, _ASK)
        client.close()

        eventually(lambda: worker.nr_conns == 0)


def test_a_connection_of_the_worker_can_be_duplicated() -> None:
    """A worker's connection can be duplicated with `dup`.

    The worker needs the duplicate to close the connection after a response. If `dup` raised an
    error, the connection would stay open and its client would wait forever.
    """
    client, accepted = socket.socketpair()
    with client, _Connection.taken_over(accepted) as connection, connection.dup() as other:
        other.send(b"x")

        assert client.recv(1) == b"x"


class _FrequentApplication:
    """A WSGI application that permits the server to repeat responses to frequent requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        self.requests.append(environ["RAW_URI"])
        lent = environ[CONNECTION]
        if lent.is_frequent():
            lent.repeatable = RepeatableBytes(b"content", lambda: True)
        start_response("200 OK", [("Content-Length", "7")])
        return [b"content"]


@contextmanager
def _frequent_connection(worker: Any, app: _FrequentApplication) -> Iterator[socket.socket]:
    """Yield the client's end of a connection on which a thread of the worker waits.

    The clock does not advance, so the worker treats every equal request as frequent.
    """
    worker.wsgi = worker.lend_connections(app)
    worker.connection_poller.repeats = Repeats(clock=lambda: 0.0)
    with _connection(worker) as (client, conn):
        thread = _started(lambda: worker.handle(conn))
        yield client
        client.close()
        thread.join(20)


def test_the_thread_of_a_connection_repeats_the_response_to_a_frequent_request() -> None:
    """A thread that waits on its connection answers a frequent request with the stored response.

    The worker starts to record requests after the first request of a connection, so the third
    request is the first frequent one.
    """
    app = _FrequentApplication()
    with _worker(_LongWaiting) as worker, _frequent_connection(worker, app) as client:
        bodies = [_answer(client, _ASK) for _ in range(6)]

    assert bodies == [b"content"] * 6
    assert app.requests == ["/"] * 3


def test_the_thread_of_a_connection_repeats_nothing_to_other_requests() -> None:
    """If a request differs in one byte from the stored request, the application handles it."""
    app = _FrequentApplication()
    with _worker(_LongWaiting) as worker, _frequent_connection(worker, app) as client:
        for _ in range(4):
            _answer(client, _ASK)
        _answer(client, _ASK.replace(b"GET /", b"GET /other"))
        _answer(client, _ASK)

    assert app.requests == ["/", "/", "/", "/other"]


@contextmanager
def _remembered(worker: Any, app: _FrequentApplication) -> Iterator[tuple[socket.socket, Any]]:
    """Yield both ends of a connection after the worker has stored a response to its requests.

    The test calls the worker's methods itself, in its own thread.
    """
    worker.wsgi = worker.lend_connections(app)
    worker.connection_poller.repeats = Repeats(clock=lambda: 0.0)
    with _connection(worker) as (client, conn):
        for _ in range(3):
            client.sendall(_ASK)
            if conn.initialized:
                assert not worker._repeat(conn)
            worker._handle_one(conn)
            client.recv(4096)
        yield client, conn


def test_a_request_in_two_pieces_is_answered_after_a_frequent_one() -> None:
    """If a request arrives in two pieces, the application handles it.

    This holds even if the whole request equals a request with a stored response.
    """
    app = _FrequentApplication()
    with _worker(_LongWaiting) as worker, _remembered(worker, app) as (client, conn):
        client.sendall(_ASK[:10])
        is_repeated = worker._repeat(conn)
        client.sendall(_ASK[10:])
        worker._handle_one(conn)

        assert not is_repeated
        assert client.recv(4096).endswith(b"content")
        assert len(app.requests) == 4


def test_a_stopping_worker_repeats_no_response_from_memory() -> None:
    """After SIGTERM a worker sends no stored responses, and the application handles each request.

    The application's response has the header `Connection: close`.
    """
    app = _FrequentApplication()
    with (
        _worker(_LongWaiting) as worker,
        _main_thread(worker),
        _remembered(worker, app) as (client, conn),
    ):
        worker.handle_exit(signal.SIGTERM, None)
        client.sendall(_ASK)

        assert not worker._repeat(conn)
        assert worker._handle_one(conn) is False
        assert b"connection: close\r\n" in client.recv(4096).lower()


def test_a_client_that_left_gets_no_repeated_response() -> None:
    """If a client disconnects after a request, the application is not called for this request."""
    app = _FrequentApplication()
    with _worker(_LongWaiting) as worker, _remembered(worker, app) as (client, conn):
        client.sendall(_ASK)
        client.close()

        assert worker._repeat(conn)  # the worker reads the request but cannot send the response
        assert not worker._repeat(conn)
        assert worker._handle_one(conn) is False
        assert len(app.requests) == 3
