"""A bucket fails under load, or its owner is suspended: no push is lost, and no pull fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.drivers.objects.owner import KEY
from entrepot.datastore.refs import Digest
from tests.images import Image, filler, image
from tests.s3_front import CutBody, S3Front, SlowDown
from tests.s3_storage import configured
from tests.system.appliance import Appliance, Setup
from tests.system.driver_checks import SHORT, SMALL
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, pull
from tests.system.pushes import ALLOWED, push, uploads_path
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

SECONDS_OF_REDIRECTS = 2.0
"""Clients can still be redirected to a bucket for this time after it fails (s)."""
_READERS = 4
_LAYERS = 4
_SHORT_LEASE = """
from entrepot.datastore import owned
from entrepot.datastore.drivers.objects import owner
owned.RENEW_S = 2.0
owner._HELD_S, owner._ABANDONED_S = 6.0, 12.0
"""


@pytest.fixture
def s3() -> Iterator[S3Front]:
    """Run an S3 server."""
    with S3Front() as front:
        yield front


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream."""
    with FakeUpstream() as fake:
        yield fake


def _setup(
    s3: S3Front,
    upstream: FakeUpstream,
    data: Path,
    variables: Mapping[str, str],
    *,
    redirects: bool = True,
) -> Setup:
    keys: dict[str, Any] = {
        **configured(s3),
    }
    redirect = SHORT if redirects else {"disable": True}
    return Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": {**ALLOWED["storage"], "s3": keys, "redirect": redirect}},
        {**SMALL, "REGISTRYDIR": "", "ENTREPOT_STATEDIR": str(data / "entrepot"), **variables},
        data=data,
    )


def _push(http: HttpClient, name: str, tag: str, made: Image) -> bool:
    """Push an image, and return False if a request is refused; a client would then retry."""
    refused = http.request("POST", uploads_path(name)).status == HTTPStatus.SERVICE_UNAVAILABLE
    if refused:
        return False
    try:
        return push(http, name, tag, made)
    except (AssertionError, OSError, HTTPException):  # the storage failed during the push
        return False


# ---- the owner is suspended


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seconds", [0.0, pytest.param(120.0, marks=pytest.mark.soak)], ids=["short lease", "2 minutes"]
)
def test_an_owner_that_was_stopped_loses_no_push_and_removes_nothing_twice(
    s3: S3Front, upstream: FakeUpstream, tmp_path: Path, seconds: float
) -> None:
    """If the owner of a bucket is suspended, another appliance becomes the owner.

    When the first appliance continues, it only reads. By default the test shortens the time for
    which an ownership is valid to a few seconds.
    """
    shorter: dict[str, str] = {}
    if not seconds:
        (tmp_path / "lease").mkdir()
        (tmp_path / "lease" / "sitecustomize.py").write_text(_SHORT_LEASE)
        shorter = {"PYTHONPATH": str(tmp_path / "lease")}
    acknowledged: dict[tuple[str, str], Image] = {}
    seeds = count(900)

    def pushed(appliance: Appliance, name: str) -> bool:
        made = of_size(100 * KB, next(seeds))
        tag = f"v{len(acknowledged)}"
        if not _push(appliance.http, name, tag, made):
            return False
        acknowledged[name, tag] = made
        return True

    with (
        Appliance(tmp_path / "a", _setup(s3, upstream, tmp_path / "of a", shorter)) as first,
        Appliance(tmp_path / "b", _setup(s3, upstream, tmp_path / "of b", shorter)) as second,
    ):
        eventually(lambda: pushed(first, "team/a"), what="the owner accepts pushes", within=30)
        stopped = [each.pid for each in first.processes()]
        _send(stopped, signal.SIGSTOP)
        began = time.monotonic()
        try:
            eventually(
                lambda: pushed(second, "team/b"), what="the other is the owner", within=240, pause=1
            )
            eventually(lambda: time.monotonic() - began >= seconds, what="the end", within=180)
            again = next(iter(acknowledged.values()))
            eventually(
                lambda: _push(second.http, "team/a", "again", again), what="pushed again", within=60
            )
        finally:
            _send(stopped, signal.SIGCONT)
        for _ in range(5):
            pushed(first, "team/a")
            eventually(lambda: pushed(second, "team/b"), what="the new owner accepts", within=60)

        for (name, tag), made in acknowledged.items():
            for each in (first, second):
                assert pull(each.http, name, tag)[0] == made.digest
    assert _removed_twice(s3) == []


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _removed_twice(s3: S3Front) -> list[str]:
    """Return the keys that were removed twice, without a write in between."""
    removed: set[str] = set()
    twice = []
    for each in s3.requests:
        if each.method == "DELETE" and each.key in removed and not each.key.endswith(KEY):
            twice.append(each.key)
        if each.method == "DELETE":
            removed.add(each.key)
        elif each.method in {"PUT", "POST"}:
            removed.discard(each.key)
    return twice


# ---- the bucket fails


@dataclass
class Load:
    """Clients that pull the layers of a proxied image one after the other until `end` is called.

    Each request has a different X-Forwarded-For, so HAProxy treats it as the request of a new
    client.
    """

    appliance: Appliance
    layers: list[bytes]
    failed_at: float = float("inf")
    redirected: int = 0
    wrong: list[object] = field(default_factory=list)
    late: list[object] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Pull the layers repeatedly, each time with a different client address."""
        numbers = count(threading.get_ident() % 60_000 * 1000)
        while not self._ended.is_set():
            layer = self.layers[next(numbers) % len(self.layers)]
            number = next(numbers)
            client = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            self._ask(Digest.of(layer), layer, client)

    def _ask(self, digest: Digest, layer: bytes, client: str) -> None:
        began, failed_at = time.monotonic(), self.failed_at
        is_late = began > failed_at + SECONDS_OF_REDIRECTS
        try:
            answer = self.appliance.http.get(
                blob_path("one.test/load", digest), X_Forwarded_For=client
            )
        except (OSError, HTTPException) as error:
            self.wrong.append(error)
            return
        if answer.status == 307:
            self.redirected += 1
            if is_late and failed_at == self.failed_at:
                self.late.append(answer)
        elif (answer.status, answer.body) != (200, layer):
            self.wrong.append((answer.status, len(answer.body)))

    def end(self) -> None:
        """Stop the clients after their current requests."""
        self._ended.set()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "outage",
    [
        ("stopped", True, 4),
        pytest.param(("stopped", True, 30), marks=pytest.mark.soak),
        pytest.param(("stopped", False, 30), marks=pytest.mark.soak),
        pytest.param(("throttled", True, 30), marks=pytest.mark.soak),
        pytest.param(("throttled", False, 30), marks=pytest.mark.soak),
        pytest.param(("cut", False, 30), marks=pytest.mark.soak),
    ],
    ids=lambda each: "-".join(map(str, each)),
)
def test_no_pull_fails_and_none_is_redirected_while_the_bucket_fails(
    s3: S3Front,
    upstream: FakeUpstream,
    tmp_path: Path,
    outage: tuple[str, bool, int],
) -> None:
    """From two seconds after the bucket fails, the appliance redirects no pull to the bucket.

    The appliance fetches the content from the upstream instead, so all pulls succeed.

    Pushes that get 201 during the failure are stored, and redirects resume after the failure.
    """
    fault, redirects, seconds = outage
    layers = [filler(200 * KB, 800 + number) for number in range(_LAYERS)]
    made = upstream.put_image("load", "v1", image(layers))
    acknowledged: dict[str, Image] = {}
    seeds = count(850)
    with Appliance(
        tmp_path / "appliance0", _setup(s3, upstream, tmp_path / "data", {}, redirects=redirects)
    ) as appliance:
        pull(appliance.http, "one.test/load", "v1")
        load = Load(appliance, list(made.layers))
        readers = [threading.Thread(target=load.run, daemon=True) for _ in range(_READERS)]
        for each in readers:
            each.start()
        if redirects:
            eventually(lambda: load.redirected > 20, what="clients are redirected", within=60)
        end = _begin(s3, fault)
        load.failed_at = time.monotonic()
        while time.monotonic() < load.failed_at + seconds:
            pushed, tag = of_size(20 * KB, next(seeds)), f"v{len(acknowledged)}"
            if _push(appliance.http, "team/load", tag, pushed):
                acknowledged[tag] = pushed
            threading.Event().wait(0.5)
        end()
        load.failed_at = float("inf")
        before = load.redirected
        if redirects:
            eventually(lambda: load.redirected > before, what="redirects resume", within=60)
        last = of_size(20 * KB, next(seeds))
        eventually(
            lambda: _push(appliance.http, "team/load", "last", last), what="a last push", within=60
        )
        load.end()
        for each in readers:
            each.join(120)

        assert load.late == []
        assert load.wrong == []
        for tag, pushed in acknowledged.items():
            assert pull(appliance.http, "team/load", tag)[0] == pushed.digest


def _begin(s3: S3Front, fault: str) -> Any:
    """Begin a fault; return the function that ends it."""
    if fault == "throttled":
        return s3.fault("*", "", SlowDown())
    if fault == "cut":
        return s3.fault("GET", "/blobs/", CutBody(50_000))
    s3.is_down = True

    def end() -> None:
        s3.is_down = False

    return end
