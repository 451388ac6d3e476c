"""Tests how a measured server starts, and how it is terminated with all its child processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.address import ServerAddress, free_port
from bench.errors import ServerFailed
from bench.server import Launch, Server
from bench.tree import is_alive

pytestmark = pytest.mark.slow

_PARENT = """\
import subprocess, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def _launch(folder: Path, *words: str) -> Launch:
    port = free_port()
    return Launch((sys.executable, *words, str(port)), folder, ServerAddress(port), ready="/")


def test_a_started_server_answers(tmp_path: Path) -> None:
    """Inside its `with` block, a server is ready and answers requests."""
    with Server(_launch(tmp_path, "-c", _PARENT)) as server:
        assert server.address.ask("GET", "/")[0] == 200


def test_stopping_a_server_ends_its_children(tmp_path: Path) -> None:
    """When a server is terminated, its remaining child processes are terminated too."""
    with Server(_launch(tmp_path, "-c", _PARENT)) as server:
        child = next(each for each in server.tree.processes() if _is_child(each.pid))

    assert not is_alive(child.pid)


def test_a_killed_server_can_be_started_again(tmp_path: Path) -> None:
    """A killed server can be started again, as after a power cut."""
    with Server(_launch(tmp_path, "-c", _PARENT)) as server:
        server.kill()
        server.start()

        assert server.address.ask("GET", "/")[0] == 200


def test_the_cpu_time_of_a_command_beside_a_server_is_measured(tmp_path: Path) -> None:
    """`cpu_of` runs a command in the server's environment, and returns the command's CPU time.

    If the command fails, ServerFailed is raised.

    With the server's environment, `entrepot healthy` searches the temporary folder in which the
    server has created its run directory.
    """
    server = Server(_launch(tmp_path))
    code = "import os; sum(range(3_000_000)); os.environ['HOME'] == %r or exit('lost')"

    assert server.cpu_of([sys.executable, "-c", code % str(tmp_path)]) > 0
    with pytest.raises(ServerFailed, match="lost"):
        server.cpu_of([sys.executable, "-c", code % "/elsewhere"])


def test_the_error_of_a_server_that_ends_has_its_last_output(tmp_path: Path) -> None:
    """If a server exits, the error has its last output, which states the reason."""
    server = Server(_launch(tmp_path, "-c", "raise SystemExit('no such thing')"))

    with pytest.raises(ServerFailed, match="no such thing"):
        server.start()
    server.stop()


def _is_child(pid: int) -> bool:
    return b"time.sleep(600)\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
