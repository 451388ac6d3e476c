"""Processes are killed during pushes: no content and no tag of an accepted push is lost.

By default there are twelve kills, in `make soak` two hundred.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import count

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size, scaled
from tests.system.load import Load
from tests.system.pulls import pull, pull_manifest
from tests.system.pushes import ALLOWED, push, push_blob, tags
from tests.system.waiting import eventually

KILLS = scaled(12, 200)
CLIENTS = 4
MOVING = "latest"


class Pushes(Load):
    """Clients that push images repeatedly, each image with a new tag and with the tag `latest`.

    `acknowledged` has the pushes with status 201: repository, tag, digest.
    """

    def __init__(self, http: HttpClient) -> None:
        super().__init__(CLIENTS, self._push_next)
        self._http = http
        self._numbers = [count(1) for _ in range(CLIENTS)]
        self.acknowledged: list[tuple[str, str, Digest]] = []
        self.failed = 0

    def _push_next(self, client: int) -> None:
        number = next(self._numbers[client])
        image = of_size(40 * KB, 10_000 * client + number)
        for tag in (f"c{client}-{number}", MOVING):
            self._push(f"load/app{client % 2}", tag, image)

    def _push(self, name: str, tag: str, image: Image) -> None:
        try:
            done = push(self._http, name, tag, image)
        # the appliance was killed, or does not serve yet
        except (OSError, HTTPException, AssertionError):
            done = False
        if done:
            self.acknowledged.append((name, tag, image.digest))
        else:
            self.failed += 1
            self.pause()


@contextmanager
def _loaded(appliance: Appliance) -> Iterator[Pushes]:
    """Push until the end of the `with` block, and then wait until pushes work again."""
    with Pushes(appliance.http) as load:
        yield load
    eventually(lambda: _works(appliance), what="a push works again", within=30)


@pytest.mark.timeout(900)  # two hundred kills take four minutes
def test_no_acknowledged_push_is_lost(start: Start) -> None:
    """Workers, HAProxy or all processes are killed; each push with a 201 is complete afterwards."""
    appliance = start(Setup(settings=ALLOWED, environment={"ENTREPOT_WORKERS": "2"}))
    chance = random.Random(7)
    acknowledged: list[tuple[str, str, Digest]] = []
    failed = 0
    for kill in range(KILLS):
        with _loaded(appliance) as load:
            eventually(lambda: load.acknowledged, what="pushes are acknowledged", within=60)
            _kill(appliance, kill, chance)
        acknowledged += load.acknowledged
        failed += load.failed

    assert failed > 0
    _nothing_is_lost(appliance.http, acknowledged)
    assert _is_tidy(appliance)


def _kill(appliance: Appliance, number: int, chance: random.Random) -> None:
    """Kill a worker, HAProxy, or all processes, after a random delay of at most 50 ms."""
    threading.Event().wait(chance.random() / 20)
    with suppress(ProcessLookupError, AssertionError):
        if number % 4 == 3:
            appliance.kill()
            appliance.start()
        elif number % 4 == 2:
            appliance.kill_program("haproxy")
        else:
            workers = appliance.workers()
            os.kill(chance.choice(workers).pid, signal.SIGKILL)


def _works(appliance: Appliance) -> bool:
    try:
        return push_blob(appliance.http, "load/probe", b"probe").status == 201
    except (OSError, HTTPException, AssertionError):
        return False


def _nothing_is_lost(http: HttpClient, acknowledged: list[tuple[str, str, Digest]]) -> None:
    """Assert that acknowledged pushes are complete, and that all listed tags can be pulled."""
    for name, tag, digest in acknowledged:
        assert pull(http, name, digest)[0] == digest
        if tag != MOVING:
            assert pull_manifest(http, name, tag).headers["docker-content-digest"] == str(digest)
    for name in {name for name, _, _ in acknowledged}:
        for tag in tags(http, name):
            pull(http, name, tag)


def _is_tidy(appliance: Appliance) -> bool:
    """Delete the unfinished uploads, and return True if no upload is left.

    An upload could not be deleted if a killed process had left it locked.
    """
    folder = appliance.state / layout.UPLOADS
    left = [path for path in folder.iterdir() if not path.name.endswith(".digest")]
    for path in left:
        number, _, _ = path.name.rpartition(".")
        for name in ("load/app0", "load/app1"):
            where = f"/v2/{name}/blobs/uploads/{number}"
            if appliance.http.get(where).status == 204:
                assert appliance.http.request("DELETE", where).status == 204
    return not [path for path in folder.iterdir() if not path.name.endswith(".digest")]
