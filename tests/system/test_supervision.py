"""Tests how `entrepot serve` starts, watches and stops a real HAProxy and stand-in programs."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.appliance.haproxy import eventually
from tests.appliance.serve_process import FAIL, ServeProcess
from tests.smtp_server import SmtpServer

ALL = ("supervisord", "haproxy", "registry", "logger", "cleaner")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a TMPDIR with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


def fetch(serve: ServeProcess, path: str = "/echo") -> bytes:
    """Return the body of a response that came through HAProxy."""
    with urllib.request.urlopen(f"http://127.0.0.1:{serve.port}{path}", timeout=30) as response:
        return bytes(response.read())


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)],
    ids=lambda each: each.name,
)
def test_serve_stops_after_a_signal_and_leaves_nothing(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    """After a signal `serve` exits with 0, and leaves no process, socket or folder.

    The programs that `serve` starts get no password in their environment.
    """
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        assert fetch(serve)
        lines = serve.processes()
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in lines]
        serve.process.send_signal(number)

        assert serve.process.wait(timeout=15) == 0
    assert all(any(name in line for line in lines.values()) for name in ALL)
    # only `serve` itself has the password in its environment
    assert sum("REGISTRY_PROXY_PASSWORD" in each for each in environments) == 1
    assert sum("proxy-hush" in each for each in environments) == 1
    assert not list(temporary.iterdir())
    assert not (serve.data / "entrepot" / "run").exists()


@pytest.mark.soak
def test_a_response_is_in_the_access_log(tmp_path: Path, temporary: Path) -> None:
    """The access log has a line of HAProxy for each response."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        fetch(serve, "/echo?logged")
        log = serve.data / "entrepot" / "log" / "access.log"

        eventually(lambda: b"/echo?logged" in log.read_bytes().replace(b"\\/", b"/"))


@pytest.mark.soak
def test_a_pull_in_flight_is_finished(tmp_path: Path, temporary: Path) -> None:
    """After SIGTERM HAProxy accepts no new connection, and a running pull gets all its bytes."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        gate = tmp_path / "gate"
        bodies: list[bytes] = []
        client = Thread(target=lambda: bodies.append(fetch(serve, f"/wait{gate}")))
        client.start()
        eventually((tmp_path / "gate.waiting").exists)
        serve.process.send_signal(signal.SIGTERM)
        eventually(lambda: not _connects(serve.port))
        gate.touch()
        client.join()

        assert bodies == [b"opened"]
        assert serve.process.wait(timeout=15) == 0


@pytest.mark.soak
def test_a_request_in_flight_has_the_configured_grace(tmp_path: Path, temporary: Path) -> None:
    """After SIGTERM a running request may take the whole time of `http.draintimeout` (60 s)."""
    with ServeProcess(tmp_path, temporary, settings={"REGISTRY_HTTP_DRAINTIMEOUT": "60s"}) as serve:
        serve.wait_until_serving()
        gate = tmp_path / "gate"
        bodies: list[bytes] = []
        client = Thread(target=lambda: bodies.append(fetch(serve, f"/wait{gate}")))
        client.start()
        eventually((tmp_path / "gate.waiting").exists)
        serve.process.send_signal(signal.SIGTERM)
        time.sleep(9)  # longer than the default of 4 s
        gate.touch()
        client.join()

        assert bodies == [b"opened"]
        assert serve.process.wait(timeout=15) == 0


def test_a_second_signal_ends_the_grace(tmp_path: Path, temporary: Path) -> None:
    """After a second signal `serve` exits at once, as when a user presses ^C twice.

    After the first signal `serve` waits for the responses that clients are receiving.
    """
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        client = Thread(target=_fetch_until_closed, args=(serve, f"/wait{tmp_path / 'never'}"))
        client.start()
        eventually((tmp_path / "never.waiting").exists)
        serve.process.send_signal(signal.SIGINT)
        eventually(lambda: not _connects(serve.port))
        before = time.monotonic()
        serve.process.send_signal(signal.SIGINT)

        assert serve.process.wait(timeout=15) == 0
        assert time.monotonic() - before < 4  # waiting for the client would take 4 s or more
        client.join()


def test_a_program_that_cannot_stay_up_ends_all_programs_and_is_named(
    tmp_path: Path, temporary: Path
) -> None:
    """If a program exits after each of its starts, `serve` stops all programs and exits with 1.

    `serve` logs the name of that program. A log hook for fatal lines sends the last log line by
    mail.
    """
    with (
        SmtpServer() as server,
        ServeProcess(
            tmp_path, temporary, settings={"REGISTRY_LOG_HOOKS": _fatal(server)}, cleaner=FAIL
        ) as serve,
    ):
        assert serve.process.wait(timeout=25) == 1
        last = serve.output().splitlines()[-1]

        assert "program=cleaner" in last
        assert 'how="exit status 1"' in last
        assert "out of luck" in last
        assert not list(temporary.iterdir())
    (mail,) = server.mails
    assert mail["Subject"].startswith("[fatal] 127.0.0.1: a program could not stay up")
    assert "out of luck" in mail.get_content()


def _fatal(server: SmtpServer) -> str:
    """Return the settings of a hook that mails fatal lines to *server*."""
    smtp = f"{{addr: '127.0.0.1:{server.port}'}}"
    return f"[{{type: mail, levels: [fatal], options: {{smtp: {smtp}, from: a@b, to: [c@d]}}}}]"


@pytest.mark.soak
def test_a_killed_program_is_started_again(tmp_path: Path, temporary: Path) -> None:
    """If a program exits once, `serve` logs a warning with the reason and restarts it."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        os.kill(dead := serve.pid_of("-m entrepot.logger"), signal.SIGKILL)
        eventually(lambda: "started again program=logger" in serve.output())

        assert 'how="terminated by SIGKILL"' in serve.output()
        assert serve.pid_of("-m entrepot.logger") != dead
        assert fetch(serve)


def test_serve_ends_all_programs_when_supervisord_is_killed(
    tmp_path: Path, temporary: Path
) -> None:
    """If supervisord is killed, `serve` stops all programs and exits with 1."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        os.kill(serve.pid_of("supervisord"), signal.SIGKILL)

        assert serve.process.wait(timeout=15) == 1
        assert not serve.processes()
        assert "killed by SIGKILL" in serve.output()


def test_all_programs_end_when_serve_is_killed(tmp_path: Path, temporary: Path) -> None:
    """If `serve` is killed, all programs exit; the next `serve` removes the old run directory."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        left = serve.run_directory()
        serve.process.kill()
        serve.process.wait()
        eventually(lambda: not serve.processes())
        serve.process = serve.start()
        eventually(lambda: serve.output().count(" serving ") == 2)

        assert not left.exists()


def test_bad_input_prints_one_line_and_exits_with_2(tmp_path: Path, temporary: Path) -> None:
    """If a port or data directory is in use, or a path is too long, `serve` prints one line."""
    with ServeProcess(tmp_path, temporary) as serve:
        serve.wait_until_serving()
        long = temporary / ("long" * 25)
        long.mkdir()
        cases = {
            "another appliance uses this data directory": serve.start(),
            "another program listens there": serve.start(REGISTRYDIR=str(tmp_path / "other")),
            "the path is too long for the paths of unix sockets": serve.start(
                TMPDIR=str(long), REGISTRYDIR=str(tmp_path / "3")
            ),
        }
        codes = [each.wait(timeout=15) for each in cases.values()]
        long.rmdir()

        assert codes == [2, 2, 2]
        assert [text for text in cases if serve.output().count(text) != 1] == []
        assert "Traceback" not in serve.output()
        assert fetch(serve)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _fetch_until_closed(serve: ServeProcess, path: str) -> None:
    with pytest.raises(OSError, match=r".*"):
        fetch(serve, path)
