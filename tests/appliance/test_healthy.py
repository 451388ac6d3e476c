"""`entrepot healthy`: what a container engine asks."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from entrepot.appliance.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


class _Answer(BaseHTTPRequestHandler):
    """Answers /healthz with the server's `status`."""

    def do_GET(self) -> None:
        known = self.path == "/healthz"
        self.send_response(getattr(self.server, "status", 500) if known else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a run directory in a temporary folder of this test's own."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        made = Path(folder) / "entrepot-abc"
        made.mkdir()
        yield made


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)], ids=["serving", "no worker"])
def test_it_is_healthy_while_it_answers(
    run: Path, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    """Through HAProxy and a worker, whatever the port, and whether with TLS or without."""
    with socketserver.UnixStreamServer(str(run / "front.sock"), _Answer) as server:
        server.status = status  # type: ignore[attr-defined]  # ours
        server.get_request = lambda: (server.socket.accept()[0], ("", 0))  # type: ignore[method-assign]  # a peer has no name
        thread = Thread(target=server.handle_request)
        thread.start()
        found = main(["healthy"])
        thread.join()

    assert found == code
    assert capsys.readouterr().err == (
        "" if status == 200 else _line("the appliance does not answer")
    )


def test_what_a_killed_one_has_left_is_not_healthy(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its socket is there, and nobody behind it."""
    server = socketserver.UnixStreamServer(str(run / "front.sock"), _Answer)
    server.server_close()

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("the appliance does not answer")


def test_a_probe_does_not_load_the_configuration() -> None:
    """It runs every few seconds, for the life of a container."""
    program = (
        "import sys; from entrepot.appliance.__main__ import main; main(['healthy']);"
        "print([name for name in ('entrepot.config', 'pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_where_none_runs_nothing_is_healthy(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not yet, or not any more."""
    assert not list(run.iterdir())

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("no appliance runs here")


def _line(said: str) -> str:
    return f"entrepot healthy: {said}\n"
