"""Test `entrepot healthy`, which container engines run as health check."""

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

from entrepot.appliance import healthy
from entrepot.appliance.__main__ import main
from entrepot.runtime import run_names
from entrepot.runtime.run_names import HEALTH

ROOT = Path(__file__).resolve().parents[2]


class _Handler(BaseHTTPRequestHandler):
    """Responds to /healthz with the attribute `status` of the server."""

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
        monkeypatch.setenv("TMPDIR", folder)
        created = Path(folder) / "entrepot-abc"
        created.mkdir()
        yield created


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)], ids=["serving", "no worker"])
def test_the_appliance_is_healthy_if_it_responds_with_200(
    run: Path, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    """The appliance is healthy if a worker responds with 200 through HAProxy.

    `entrepot healthy` connects to a unix socket, so it works with any port, with and without TLS.
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
        "" if status == 200 else _line("the appliance does not respond")
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
    """A failing check of `health:` makes the appliance unready, not dead.

    A restart of the container would not make the check pass.
    """
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
    """A killed appliance, whose socket file exists but has no listener, is not healthy."""
    server = socketserver.UnixStreamServer(str(run / run_names.FRONT_SOCKET), _Handler)
    server.server_close()

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("the appliance does not respond")


def test_the_health_check_imports_next_to_nothing(run: Path) -> None:
    """`entrepot healthy` runs every few seconds, so it imports no large module."""
    large = {
        *("entrepot.config", "pydantic", "yaml", "dataclasses", "inspect", "tempfile"),
        *("http.client", "email.message", "ssl", "json", "subprocess", "logging"),
    }
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        "from entrepot.appliance.__main__ import main\nmain(['healthy'])\n"
        f"print(({large!r} & set(sys.modules)) - before)"
    )
    with socketserver.UnixStreamServer(str(run / run_names.FRONT_SOCKET), _Handler) as server:
        server.status = 200  # type: ignore[attr-defined]  # ours
        server.get_request = lambda: (server.socket.accept()[0], ("", 0))  # type: ignore[method-assign]  # a peer has no name
        thread = Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        thread.join()

    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
def test_the_health_check_looks_where_serve_creates_its_run_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """`healthy` searches the temporary folder of Python's module tempfile, which `serve` uses."""
    for each in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    usual = healthy._temporary_folder(os.environ)
    assert usual == tempfile.gettempdir()
    monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    assert healthy._temporary_folder(os.environ) == tempfile.gettempdir() == str(tmp_path)


def test_without_a_running_appliance_the_check_fails(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`healthy` fails if no appliance runs."""
    assert not list(run.iterdir())

    assert main(["healthy"]) == 1
    assert capsys.readouterr().err == _line("no appliance runs in this container")


def _line(problem: str) -> str:
    return f"entrepot healthy: {problem}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has groups to lose")
def test_root_keeps_none_of_its_groups_for_the_check(run: Path) -> None:
    """For the health check root gives up its groups.

    A link of the service user could lead to a socket that only these groups may open.
    """
    (run / run_names.FRONT_SOCKET).touch()
    for each in (run.parent, run):
        os.chown(each, 12345, 12345)
    code = (
        "import os, sys; from entrepot.appliance import healthy;"
        f"os.setgroups([0, 4]); healthy._step_down([{str(run / run_names.FRONT_SOCKET)!r}]);"
        "print(os.getuid(), os.getgid(), os.getgroups())"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "12345 12345 []"
