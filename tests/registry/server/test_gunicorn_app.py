"""Gunicorn's arbiter starts and replaces the workers and kills workers that hang."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from pathlib import Path

import pytest

from entrepot.registry.server.gunicorn_app import (
    GunicornApplication,
    SocketServing,
    SuspendTolerantArbiter,
)
from tests.clock import Clock
from tests.processes import next_line, running

pytestmark = pytest.mark.slow

_SERVE = """
import os, socket, sys
from pathlib import Path
from entrepot.registry.server.gunicorn_app import GunicornApplication, SocketServing

def app(environ, start_response):
    held = environ["gunicorn.socket"].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    start_response("200 OK", [("Content-Length", "0"), ("Held", str(held))])
    return []

sockets = tuple(Path(sys.argv[1]) / f"{number}.sock" for number in range(2))
reported = lambda: os.write(1, b"started\\n")
GunicornApplication(app, SocketServing(sockets, log_level="critical", started=reported)).run()
"""


def _response(path: Path) -> bytes:
    """Return the response of the worker that listens on a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.recv(4096)


def test_sighup_replaces_the_workers_and_each_has_a_socket(tmp_path: Path) -> None:
    """After SIGHUP the arbiter starts new workers before the old workers exit.

    Each worker has its own socket.
    """
    with running(_SERVE, tmp_path) as master:
        assert [next_line(master) for _ in range(2)] == ["started"] * 2
        master.send_signal(signal.SIGHUP)
        replaced = [next_line(master) for _ in range(2)]
        answers = [_response(tmp_path / f"{number}.sock")[:12] for number in range(2)]
        master.terminate()
        master.wait(20)

    assert replaced == ["started"] * 2
    assert answers == [b"HTTP/1.1 200"] * 2


_LEND = """
import os, sys
from pathlib import Path
from entrepot.registry.api.response_body import checked_stream
from entrepot.registry.server.delivery import CONNECTION
from entrepot.registry.server.fileslice import FileSlice
from entrepot.registry.server.gunicorn_app import GunicornApplication, SocketServing

file = os.open(sys.argv[1] + "/content", os.O_RDONLY)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2000000")])
    pieces = [FileSlice(file, 0, 10), b"between", FileSlice(file, 17, 2000000)]
    return checked_stream(iter(pieces), 2000000, environ[CONNECTION])

reported = lambda: os.write(1, b"started\\n")
sockets = (Path(sys.argv[1]) / "0.sock",)
GunicornApplication(app, SocketServing(sockets, log_level="critical", started=reported)).run()
"""


def test_a_body_may_be_written_to_the_lent_connection(tmp_path: Path) -> None:
    """The application can write a body directly to the connection after gunicorn sent the headers.

    Afterwards the client can send another request on the same connection.
    """
    content = b"0123456789between" + bytes(range(250)) * 8000
    (tmp_path / "content").write_bytes(content[:2_000_000])
    with running(_LEND, tmp_path) as master:
        next_line(master)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / "0.sock"))
            bodies = [_body(client) for _ in range(2)]

    assert bodies == [content[:2_000_000]] * 2


def _body(client: socket.socket) -> bytes:
    """Send a request, and return the body of the response."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = http.client.HTTPResponse(client)
    answer.begin()
    return answer.read()


def test_the_send_buffer_is_larger_than_the_default(tmp_path: Path) -> None:
    """The send buffer of a connection is larger than the kernel's default.

    With the default a thread would wake up for every 50 KB, which costs a lot of CPU time.
    """
    with socket.socket(socket.AF_UNIX) as usual, running(_SERVE, tmp_path) as master:
        assert next_line(master) == "started"
        held = _response(tmp_path / "0.sock").partition(b"Held: ")[2].split()[0]

        assert int(held) > usual.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


class _SilentWorker:
    """A worker that last reported to the arbiter at the time *reported*, in seconds."""

    def __init__(self, reported: float) -> None:
        self.tmp = self
        self.aborted = False
        self._reported = reported

    def last_update(self) -> float:
        return self._reported


class _RecordingArbiter(SuspendTolerantArbiter):
    """An arbiter that records the workers that it would kill."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", clock)
        super().__init__(GunicornApplication(lambda *_: [], SocketServing(())))
        self.WORKERS = {7: _SilentWorker(clock.now)}
        self.killed: list[int] = []

    def kill_worker(self, pid: int, _: int) -> None:
        self.killed.append(pid)


def test_workers_are_not_killed_after_a_pause_of_the_whole_appliance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After all processes of the appliance were suspended, gunicorn's arbiter kills no worker.

    The arbiter can be the first process to resume. At that moment, the last report of each worker
    is older than the timeout, although no worker hangs. So the arbiter allows each worker the full
    timeout again.
    """
    clock = Clock(1000.0)
    arbiter = _RecordingArbiter(clock, monkeypatch)
    for clock.now in (1001.0, 5000.0, *map(float, range(5001, 5060))):
        arbiter.murder_workers()

    assert not arbiter.killed


def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker does not report for 60 s while the arbiter runs, the arbiter kills it."""
    clock = Clock(1000.0)
    arbiter = _RecordingArbiter(clock, monkeypatch)
    for clock.now in map(float, range(1001, 1063)):
        arbiter.murder_workers()

    assert arbiter.killed
