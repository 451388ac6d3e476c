"""`entrepot serve`, started as a user starts it, over stand-in programs and a real HAProxy."""

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

from tests.appliance.front import eventually
from tests.appliance.house import FAIL, House

ALL = ("supervisord", "haproxy", "registry", "logger", "cleaner")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a TMPDIR that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


def fetched(house: House, path: str = "/echo") -> bytes:
    """Return a body that came through HAProxy."""
    with urllib.request.urlopen(f"http://127.0.0.1:{house.port}{path}", timeout=30) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_it_serves_until_told_to_stop_and_leaves_nothing(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    """Exit code 0; no process, socket or run directory stays, and passwords were for files only."""
    with House(tmp_path, temporary) as house:
        house.serving()
        assert fetched(house)
        lines = house.living()
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in lines]
        house.process.send_signal(number)

        assert house.process.wait(timeout=15) == 0
    assert all(any(name in line for line in lines.values()) for name in ALL)
    assert sum("REGISTRY_PROXY_PASSWORD" in each for each in environments) == 1  # serve's own
    assert sum("proxy-hush" in each for each in environments) == 1
    assert not list(temporary.iterdir())
    assert not (house.data / "entrepot" / "run").exists()


def test_an_answer_is_in_the_access_log(tmp_path: Path, temporary: Path) -> None:
    """What HAProxy prints is kept where the logger looks for it."""
    with House(tmp_path, temporary) as house:
        house.serving()
        fetched(house, "/echo?logged")
        log = house.data / "entrepot" / "log" / "access.log"

        eventually(lambda: b"/echo?logged" in log.read_bytes().replace(b"\\/", b"/"))


def test_a_pull_in_flight_is_finished(tmp_path: Path, temporary: Path) -> None:
    """HAProxy takes nothing new and lets go of what it has; the workers stay until then."""
    with House(tmp_path, temporary) as house:
        house.serving()
        gate = tmp_path / "gate"
        bodies: list[bytes] = []
        client = Thread(target=lambda: bodies.append(fetched(house, f"/wait{gate}")))
        client.start()
        eventually((tmp_path / "gate.waiting").exists)
        house.process.send_signal(signal.SIGTERM)
        eventually(lambda: not _connects(house.port))
        gate.touch()
        client.join()

        assert bodies == [b"opened"]
        assert house.process.wait(timeout=15) == 0


@pytest.mark.soak
def test_a_request_in_flight_has_the_time_that_is_set(tmp_path: Path, temporary: Path) -> None:
    """Beyond the usual four seconds, and beyond what the programs have after them."""
    with House(tmp_path, temporary, settings={"REGISTRY_HTTP_DRAINTIMEOUT": "60s"}) as house:
        house.serving()
        gate = tmp_path / "gate"
        bodies: list[bytes] = []
        client = Thread(target=lambda: bodies.append(fetched(house, f"/wait{gate}")))
        client.start()
        eventually((tmp_path / "gate.waiting").exists)
        house.process.send_signal(signal.SIGTERM)
        time.sleep(9)  # the length of the grace is what is tested
        gate.touch()
        client.join()

        assert bodies == [b"opened"]
        assert house.process.wait(timeout=15) == 0


def test_a_second_signal_ends_the_grace(tmp_path: Path, temporary: Path) -> None:
    """A client that never reads holds nothing up: the user who asks twice is in a hurry."""
    with House(tmp_path, temporary) as house:
        house.serving()
        client = Thread(target=_swallow, args=(house, f"/wait{tmp_path / 'never'}"))
        client.start()
        eventually((tmp_path / "never.waiting").exists)
        house.process.send_signal(signal.SIGINT)
        eventually(lambda: not _connects(house.port))
        before = time.monotonic()
        house.process.send_signal(signal.SIGINT)

        assert house.process.wait(timeout=15) == 0
        assert time.monotonic() - before < 4  # HAProxy's grace
        client.join()


def test_a_program_that_cannot_stay_up_ends_all_and_is_named(
    tmp_path: Path, temporary: Path
) -> None:
    """Exit code 1, the program, how it ended and its last words."""
    with House(tmp_path, temporary, cleaner=FAIL) as house:
        assert house.process.wait(timeout=25) == 1
        last = house.output().splitlines()[-1]

        assert "program=cleaner" in last
        assert 'how="exit status 1"' in last
        assert "out of luck" in last
        assert not list(temporary.iterdir())


def test_a_program_that_dies_is_started_again(tmp_path: Path, temporary: Path) -> None:
    """One death is a warning that says how, no more; answers go on."""
    with House(tmp_path, temporary) as house:
        house.serving()
        os.kill(dead := house.pid_of("-m entrepot.logger"), signal.SIGKILL)
        eventually(lambda: "started again program=logger" in house.output())

        assert 'how="terminated by SIGKILL"' in house.output()
        assert house.pid_of("-m entrepot.logger") != dead
        assert fetched(house)


def test_without_supervisord_nothing_goes_on(tmp_path: Path, temporary: Path) -> None:
    """Killed, it can end nobody: serve does, and says so with exit code 1."""
    with House(tmp_path, temporary) as house:
        house.serving()
        os.kill(house.pid_of("supervisord"), signal.SIGKILL)

        assert house.process.wait(timeout=15) == 1
        assert not house.living()
        assert "killed by SIGKILL" in house.output()


def test_without_serve_nothing_goes_on(tmp_path: Path, temporary: Path) -> None:
    """Killed, it ends nobody: the kernel tells supervisord; the next start cleans up."""
    with House(tmp_path, temporary) as house:
        house.serving()
        left = house.run()
        house.process.kill()
        house.process.wait()
        eventually(lambda: not house.living())
        house.process = house.start()
        eventually(lambda: house.output().count(" serving ") == 2)

        assert not left.exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, temporary: Path) -> None:
    """A port that is taken, a data directory that is in use, a path that is too long."""
    with House(tmp_path, temporary) as house:
        house.serving()
        long = temporary / ("long" * 25)
        long.mkdir()
        cases = {
            "another appliance uses this data directory": house.start(),
            "another program listens there": house.start(REGISTRYDIR=str(tmp_path / "other")),
            "too long for the paths of unix sockets": house.start(
                TMPDIR=str(long), REGISTRYDIR=str(tmp_path / "3")
            ),
        }
        codes = [each.wait(timeout=15) for each in cases.values()]
        long.rmdir()

        assert codes == [2, 2, 2]
        assert [text for text in cases if house.output().count(text) != 1] == []
        assert "Traceback" not in house.output()
        assert fetched(house)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _swallow(house: House, path: str) -> None:
    with pytest.raises(OSError, match=r".*"):
        fetched(house, path)
