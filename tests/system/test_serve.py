"""The appliance starts, serves, restarts killed programs, and stops."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from http.client import HTTPException

import pytest

from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import Reader, blob_path
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ANSWERS_WITHIN = 30.0
PROGRAMS = ["haproxy", "registry", "logger", "cleaner"]


def test_an_image_is_fetched_once_and_served_from_disk_afterwards(
    start: Start, public: Registry, clients: Clients
) -> None:
    """The second pull of an image causes no upstream request."""
    public.push("serve/once", "v1", of_size(64 * KB, 10))
    appliance = start(Setup({"one.test": {"url": public.url}}))
    image = f"{appliance.http.netloc}/one.test/serve/once:v1"

    first = clients.pull(image)
    sent = public.requests()
    clients.forget()
    second = clients.pull(image)

    assert first == second
    assert sent == public.requests()
    assert sum(method == "GET" and "once/blobs" in path for method, path, _ in sent) == 2


def test_it_starts_with_1024_open_files_and_further_clients_wait(start: Start) -> None:
    """With a limit of 1,024 open files the appliance starts, and clients above its capacity wait.

    HAProxy would exit at its start if it could need more open files than this limit permits.
    """
    appliance = start(Setup(files=1024))
    with ExitStack() as stack:
        waiting = [stack.enter_context(_request(appliance)) for _ in range(400)]
        # a client that closes its connection makes room for a waiting one
        for each in waiting:
            assert each.recv(12) == b"HTTP/1.1 200"
            each.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_a_stopped_appliance_leaves_no_process_and_no_socket(
    start: Start, number: signal.Signals
) -> None:
    """A stopped appliance leaves no process and no socket, and exits with 0."""
    appliance = start(Setup())
    response = appliance.http.get("/v2/")

    code = appliance.stop(number)

    assert response.status == 200
    assert response.headers["docker-distribution-api-version"] == "registry/2.0"
    assert code == 0


def test_a_pull_in_flight_is_finished_when_the_appliance_stops(
    start: Start, fake: FakeUpstream
) -> None:
    """When the appliance is stopped, a client with a running pull still gets all bytes."""
    release = threading.Event()
    digest = fake.add_blob("app", filler(512 * KB, 11))
    fake.misbehave("/blobs/", method="GET", hold=release, hold_after=256 * KB)
    appliance = start(Setup({"one.test": {"url": fake.url}}))
    reader = Reader(appliance.http, blob_path("one.test/app", digest)).begin()
    eventually(lambda: reader.received, what="the pull has begun")

    ending = threading.Thread(target=appliance.stop)
    ending.start()
    release.set()
    reader.end()
    ending.join()

    assert reader.has(digest)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_killed_program_is_started_again(shared: Appliance, name: str) -> None:
    """Supervisord restarts a killed program, and the appliance serves as before."""
    before = shared.program(name)
    assert before is not None

    shared.kill_program(name)

    eventually(
        lambda: (now := shared.program(name)) is not None and now.pid != before.pid,
        what=f"{name} runs again",
    )
    eventually(lambda: _serves(shared), what="the appliance serves again")


def test_a_program_that_cannot_stay_up_ends_the_appliance_and_is_named(start: Start) -> None:
    """If a program exits after each restart, the appliance exits with 1.

    The last line of the log names the program.
    """
    appliance = start(Setup())
    killer = threading.Thread(target=_kill_while_it_runs, args=(appliance, "logger"))

    killer.start()
    code = appliance.ended(within=60)
    killer.join()

    assert code == 1
    assert "logger" in appliance.output().splitlines()[-1]


def test_status_shows_every_program_on_one_screen(shared: Appliance) -> None:
    """`entrepot status` shows programs, upstreams and the used bytes on one screen."""
    shown = shared.entrepot("status")

    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in PROGRAMS)
    assert "one.test" in shown.stdout
    assert len(shown.stdout.splitlines()) <= 50


def test_check_shows_no_password(start: Start) -> None:
    """`entrepot check` prints every setting, but no secret."""
    appliance = start(
        Setup({"one.test": {"url": "http://127.0.0.1:9", "username": "u", "password": "s3cret-x"}})
    )

    shown = appliance.entrepot("check")

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "one.test" in shown.stdout
    assert "s3cret-x" not in shown.stdout + shown.stderr + appliance.output()


def _serves(appliance: Appliance) -> bool:
    try:
        return appliance.http.get("/v2/").status == 200
    except (OSError, HTTPException):
        return False


def _kill_while_it_runs(appliance: Appliance, name: str) -> None:
    """Kill the program *name* whenever it runs, until the appliance has exited."""

    def is_over() -> bool:
        found = appliance.processes()
        for each in found:
            if f"-m entrepot.{name}" in each.argv:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        return not found

    eventually(is_over, what="the appliance exits", within=50)


def _request(appliance: Appliance) -> socket.socket:
    """Return a connection over which a request for `/v2/` was sent."""
    address = ("127.0.0.1", appliance.http.port)
    connection = socket.create_connection(address, timeout=ANSWERS_WITHIN)
    connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection
