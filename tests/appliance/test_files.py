"""haproxy.cfg and `ulimit -n`: HAProxy starts with few files, and has a pipe for each body."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.appliance.front import SLOTS, Front, eventually, worker


@pytest.fixture
def run() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


def info(front: Front, name: str) -> int:
    """Return a figure that HAProxy tells of itself."""
    lines = dict(line.partition(": ")[::2] for line in front.admin("show info").splitlines())
    return int(lines[name])


@pytest.mark.parametrize("files", [1024, 4096, 20000])
def test_haproxy_starts_with_few_files(run: Path, files: int) -> None:
    """Its own reckoning took no notice of `maxpipes`: "Cannot raise FD limit", and no start."""
    with worker(run, 1), Front(run, workers=16, files=files) as front:
        assert info(front, "Maxsock") <= files
        assert front.ask("/echo").status == 200

    assert "limit" not in (run / "haproxy.err").read_text()


def test_each_body_that_moves_has_a_pipe(run: Path) -> None:
    """A body that waited for one of 64 pipes kept HAProxy busy, and every client waited for it."""
    with worker(run, 1), Front(run, workers=1) as front, ExitStack() as stack:
        for _ in range(SLOTS):
            reader = stack.enter_context(socket.create_connection(("127.0.0.1", front.port)))
            reader.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert reader.recv(12) == b"HTTP/1.1 200"

        assert eventually(lambda: info(front, "PipesUsed") == SLOTS)
