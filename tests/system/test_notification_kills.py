"""While programs are killed under load, no event of a completed request is lost.

By default single programs are killed five times, and all programs twice; in `make soak` more often.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import count

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.receiver import Received, Receiver, Reply
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size, scaled
from tests.system.load import Load
from tests.system.pulls import manifest_path
from tests.system.pushes import ALLOWED, push
from tests.system.waiting import eventually

NAME = "load/app"
ROUNDS = scaled(1, 20)
CLIENTS = 3
# HAProxy may not have logged responses that ended less than this time before it was killed (s)
_MOMENT_S = 0.05
_ACCEPTED = (200, 201, 202)

Answered = dict[str, tuple[str, float]]
"""Maps the user agent of each accepted request to the action and the time of the response."""


class Requests(Load):
    """Clients that push, pull, mount and delete; each request has a different user agent.

    `answered` maps the user agent of each accepted request to the action of the request, and to the
    time at which the response was complete.
    """

    def __init__(self, http: HttpClient, image: Image, numbers: Iterator[int]) -> None:
        super().__init__(CLIENTS, self._send_next)
        self._http = http
        self._image = image
        self._layer = Digest.of(image.layers[0])
        self._numbers = numbers
        self.answered: Answered = {}

    def _send_next(self, _client: int) -> None:
        number = next(self._numbers)
        path = manifest_path(NAME, f"t{number}")
        mount = f"/v2/other/app{number % 7}/blobs/uploads/?mount={self._layer}&from={NAME}"
        for action, method, target, body in (
            ("push", "PUT", path, self._image.manifest),
            ("pull", "GET", path, b""),
            ("mount", "POST", mount, b""),
            ("delete", "DELETE", path, b""),
        ):
            self._send(f"{action}/{number}", method, target, body)

    def _send(self, agent: str, method: str, target: str, body: bytes) -> None:
        headers = {"User-Agent": agent, "Accept": self._image.media_type}
        if body:
            headers["Content-Type"] = self._image.media_type
        try:
            status = self._http.request(method, target, headers=headers, body=body or None).status
        except (OSError, HTTPException):
            self.pause()
            return
        if status in _ACCEPTED:
            self.answered[agent] = agent.partition("/")[0], time.monotonic()


@contextmanager
def _loaded(
    appliance: Appliance,
    image: Image,
    numbers: Iterator[int],
    answered: Answered,
) -> Iterator[Requests]:
    """Send requests during the `with` block and shortly after it.

    Add the accepted requests to *answered*.
    """
    with Requests(appliance.http, image, numbers) as load:
        eventually(lambda: len(load.answered) > 8, what="requests are answered", within=60)
        yield load
        before = len(load.answered)
        eventually(lambda: len(load.answered) > before + 8, what="requests go on", within=60)
    answered |= load.answered


def _agents(receiver: Receiver) -> set[str]:
    return {str(each["request"]["useragent"]) for each in receiver.accepted}


def _settings(receiver: Receiver) -> Setup:
    endpoint = {"name": "a", "url": receiver.url, "timeout": "5s", "backoff": "100ms"}
    notifications = {"notifications": {"endpoints": [endpoint]}}
    return Setup(settings=ALLOWED | notifications, environment={"ENTREPOT_WORKERS": "2"})


@pytest.mark.timeout(900)
def test_a_kill_of_one_program_loses_no_event(start: Start) -> None:
    """Each program is killed under load; afterwards each completed request has its event.

    Only pulls that ended just before a kill of HAProxy may lack an event, because HAProxy may not
    have logged them.
    """
    image, numbers = of_size(KB, 980), count()
    answered: Answered = {}
    excused: set[str] = set()
    with Receiver() as receiver:
        appliance = start(_settings(receiver))
        assert push(appliance.http, NAME, "base", image)
        for _ in range(ROUNDS):
            for name in ("logger", "worker", "cleaner", "logger", "haproxy"):
                with _loaded(appliance, image, numbers, answered) as load:
                    killed = time.monotonic()
                    _kill(appliance, name)
                    recent = dict(load.answered)
                if name == "haproxy":
                    excused |= _pulls_around(recent, killed)
        expected = set(answered) - excused
        eventually(lambda: expected <= _agents(receiver), what="all events arrive", within=60)

        assert {action for action, _ in answered.values()} == {"push", "pull", "mount", "delete"}
        assert len(excused) < len(answered) / 4


def _pulls_around(answered: Answered, killed: float) -> set[str]:
    """Return the user agents of pulls that were answered just before or after the kill."""
    return {
        agent
        for agent, (action, at) in answered.items()
        if action == "pull" and abs(at - killed) < _MOMENT_S
    }


def _kill(appliance: Appliance, name: str) -> None:
    with suppress(ProcessLookupError):
        if name == "worker":
            workers = eventually(appliance.workers, what="a worker runs")
            os.kill(workers[0].pid, signal.SIGKILL)
        else:
            # supervisord looks for killed programs once a second, so the program may not run yet
            eventually(lambda: appliance.program(name), what=f"{name} runs again")
            appliance.kill_program(name)


@pytest.mark.timeout(900)
def test_a_kill_of_everything_loses_no_event_of_a_write(start: Start) -> None:
    """All processes are killed at once while the receiver fails: no event of a write is lost."""
    image, numbers = of_size(KB, 981), count()
    answered: Answered = {}
    is_failing = [True]

    def reply(_: Received) -> Reply:
        return (503 if is_failing[0] else 200), {}

    with Receiver(reply) as receiver:
        appliance = start(_settings(receiver))
        assert push(appliance.http, NAME, "base", image)
        for _ in range(2 * ROUNDS):
            with _loaded(appliance, image, numbers, answered):
                appliance.kill()
                appliance.start()
        is_failing[0] = False
        writes = {agent for agent, (action, _) in answered.items() if action != "pull"}
        eventually(lambda: writes <= _agents(receiver), what="all events arrive", within=60)

    assert len(writes) > 20
