"""Test haproxy.cfg with a low limit of open files (`ulimit -n`), and pipes for bodies."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.appliance.haproxy import SLOTS, Haproxy, eventually, stub_worker

pytestmark = pytest.mark.slow


@pytest.fixture
def run() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


def info(haproxy: Haproxy, name: str) -> int:
    """Return the value *name* of HAProxy's `show info`."""
    lines = dict(line.partition(": ")[::2] for line in haproxy.admin("show info").splitlines())
    return int(lines[name])


@pytest.mark.parametrize("files", [1024, 4096, 20000])
def test_haproxy_starts_with_few_open_files(run: Path, files: int) -> None:
    """HAProxy starts with a low limit of open files, and prints no message about a limit."""
    with stub_worker(run, 1), Haproxy(run, workers=16, files=files) as haproxy:
        assert info(haproxy, "Maxsock") <= files
        assert haproxy.request("/echo").status == 200

    assert "limit" not in (run / "haproxy.err").read_text()


def test_each_body_in_transfer_has_a_pipe(run: Path) -> None:
    """Each body in transfer has a pipe; without a pipe a body would delay every client."""
    with stub_worker(run, 1), Haproxy(run, workers=1) as haproxy, ExitStack() as stack:
        for _ in range(SLOTS):
            reader = stack.enter_context(socket.create_connection(("127.0.0.1", haproxy.port)))
            reader.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert reader.recv(12) == b"HTTP/1.1 200"

        assert eventually(lambda: info(haproxy, "PipesUsed") == SLOTS)
