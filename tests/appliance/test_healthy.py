"""`entrepot healthy` is the health check of a container engine."""

from __future__ import annotations

import os
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
from entrepot.runtime import run_names
from entrepot.runtime.run_names import HEALTH

ROOT = Path(__file__).resolve().parents[2]


class _Handler(BaseHTTPRequestHandler):
    """Responds to /healthz with the server's `status`."""

    def do_GET(self) -> None:
        known = self.path == "/healthz"
        self.send_response(getattr(self.server, "status", 500) if known else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create a run directory in a temporary folder of this test."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        created = Path(folder) / "entrepot-abc"
        created.mkdir()
        yield created


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)], ids=["serving", "no worker"])
def test_the_appliance_is_healthy_if_it_responds_with_200(
    run: Path, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    """The appliance is healthy if a worker responds with 200 through HAProxy.

    The health check works on every port, with TLS and without.
    """
    with socketserver.UnixStreamServer(str(run / run_names.FRONT_SOCKET), _Handler) as server:
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


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["healthy"], 0, ""),
        (["healthy", "--ready"], 1, "the health check /down fails: file exists"),
    ],
    ids=["alive", "ready"],
)
def test_a_failing_check_makes_the_appliance_unready_and_not_dead(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, problem: str
) -> None:
    """A restart repairs nothing that a check of `health:` found, but clients get 503."""
    (run / HEALTH).write_text('{"/down": "file exists"}')
    with socketserver.UnixStreamServer(str(run / run_names.FRONT_SOCKET), _Handler) as server:
        server.status = 200  # type: ignore[attr-defined]  # ours
        server.get_request = lambda: (server.socket.accept()[0], ("", 0))  # type: ignore[method-assign]  # a peer has no name
        thread = Thread(target=server.handle_request)
        thread.start()
        found = main(words)
        thread.join()

    assert found == code
    assert capsys.readouterr().err == (_line(problem) if problem else "")


def test_the_socket_of_a_killed_appliance_is_not_healthy(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The socket file of a killed appliance, on which no process listens, is not healthy."""
    server = socketserver.UnixStreamServer(str(run / run_names.FRONT_SOCKET), _Handler)
    server.server_close()

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("the appliance does not answer")


def test_the_health_check_does_not_import_the_configuration() -> None:
    """`entrepot healthy` imports no configuration, because it runs every few seconds."""
    program = (
        "import sys; from entrepot.appliance.__main__ import main; main(['healthy']);"
        "print([name for name in ('entrepot.config', 'pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_without_a_running_appliance_the_check_fails(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`healthy` fails without a running appliance, before its start and after its stop."""
    assert not list(run.iterdir())

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("no appliance runs in this container")


def _line(problem: str) -> str:
    return f"entrepot healthy: {problem}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has groups to lose")
def test_root_keeps_none_of_its_groups_for_the_check(run: Path) -> None:
    """Root keeps none of its groups for the health check, which may meet a link."""
    (run / run_names.FRONT_SOCKET).touch()
    for each in (run.parent, run):
        os.chown(each, 12345, 12345)
    code = (
        "import os, sys; from pathlib import Path; from entrepot.appliance import healthy;"
        f"os.setgroups([0, 4]); healthy._step_down([Path({str(run / run_names.FRONT_SOCKET)!r})]);"
        "print(os.getuid(), os.getgid(), os.getgroups())"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "12345 12345 []"
