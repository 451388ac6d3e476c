"""A thread that stays with its connection: it answers what comes soon, and keeps no place."""

from __future__ import annotations

import os
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
from gunicorn.workers.gthread import TConn

from entrepot.registry.api.response_body import checked_stream
from entrepot.registry.server.delivery import CONNECTION
from entrepot.registry.server.fileslice import FileSlice, Piece
from entrepot.registry.server.worker import MAX_WAITING_THREADS, KeepAliveWorker

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
    """Yield a client's end, and the worker's, which has something to read."""
    client, server = socket.socketpair(socket.AF_UNIX)
    with client, server:
        client.settimeout(20)
        conn = TConn(worker.cfg, server, "", "worker.sock")
        conn.data_ready = True
        yield client, conn


def _ended(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _pieces(file: BinaryIO) -> Iterator[Piece]:
    with file:
        yield FileSlice(file.fileno(), 0, 1_000_000)


def _chunks(client: socket.socket) -> bytes:
    """Read an answer in chunks to the end of its connection, and return its body."""
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


def test_what_comes_soon_is_answered_by_the_same_call() -> None:
    """The pool is left alone: HAProxy's next request finds its thread waiting."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        answers = []

        def ask() -> None:
            for request in (_ASK, _ASK, _ASK_LAST):
                client.sendall(request)
                answers.append(client.recv(4096)[:12])

        asking = _ended(ask)
        kept = worker.handle(conn)
        asking.join(20)

    assert kept is False
    assert answers == [b"HTTP/1.1 200"] * 3


def test_a_client_that_leaves_ends_it() -> None:
    """A closed connection is readable, and nobody's any more."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK)
        client.shutdown(socket.SHUT_WR)

        assert worker.handle(conn) is False


def test_a_connection_that_stays_idle_goes_back_to_the_poller() -> None:
    """An idle connection costs a thread no more than a moment, and its place is free again."""
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        kept = []
        for _ in range(MAX_WAITING_THREADS + 1):
            client.sendall(_ASK)
            kept.append(worker.handle(conn))

        assert kept == [True] * (MAX_WAITING_THREADS + 1)
        assert worker._waiting_slots.acquire(blocking=False)


@pytest.mark.timeout(15)
def test_who_finds_no_place_does_not_wait() -> None:
    """As many threads as may wait do so already: this one is wanted for other requests."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        for _ in range(MAX_WAITING_THREADS):
            worker._waiting_slots.acquire()
        client.sendall(_ASK)

        assert worker.handle(conn) is True


@pytest.mark.timeout(15)
def test_bytes_that_were_read_already_are_not_waited_for() -> None:
    """They make no socket readable: gunicorn looks for them once the request is ended."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK + _ASK)

        assert worker.handle(conn) is True
        assert conn.parser.unreader.buf.getvalue() == _ASK


@pytest.mark.timeout(15)
def test_a_worker_that_stops_does_not_wait() -> None:
    """Its connections are closed with their answers."""
    with _worker(_LongWaiting) as worker, _connection(worker) as (client, conn):
        worker.alive = False
        client.sendall(_ASK)

        assert worker.handle(conn) is False
        assert b"\r\nConnection: close\r\n" in client.recv(4096)


def test_who_does_not_close_is_waited_for_by_no_other_thread() -> None:
    """A cut answer to a slow client held up the poller for two seconds, and all other clients."""
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(_ASK_LAST)

        assert worker.handle(conn) is False
        assert conn.sock.fileno() == -1
        conn.close(graceful=True)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert client.recv(4096) == b""


def test_a_slow_reader_keeps_no_thread(tmp_path: Path) -> None:
    """The thread is free while the client has read nothing, and the client gets all of it."""
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
def test_a_body_of_unknown_length_keeps_no_thread(tmp_path: Path, patience: float) -> None:
    """It comes in chunks, whole, with one end: the server adds none to it."""
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

        assert worker.handle(conn) is False  # a slow reader has read nothing by now
        assert conn.sock.fileno() == -1
        if not patience:
            reading.start()
        reading.join(20)

    assert got == [b"first" + content + b"last"]


def test_a_body_of_unknown_length_that_breaks_off_has_no_end(tmp_path: Path) -> None:
    """Also where a file has become shorter: no chunk has bytes of another, or of the end."""
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


def test_a_connection_that_is_lost_has_nobody_to_wait_for() -> None:
    """It may be closed already when its thread comes to the end."""
    with _worker(_NotWaiting) as worker, _connection(worker) as (client, conn):
        client.sendall(b"GET")
        client.close()

        assert worker.handle(conn) is False
