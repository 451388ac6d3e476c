"""An upstream fails in the middle of a layer, in several ways and for different durations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import MB, scaled
from tests.system.pulls import Reader, blob_path, end_all, pull_manifest
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_NAME = "one.test/app"
_SIZE = 20 * MB
_RATE = 8.0 * MB
_CLIENTS = 3
_AT_ONCE = scaled(20, 100)
_MOST_SENT = 1.4
_LONG = (3.0, 10.0, 25.0)

Outage = Callable[[FakeUpstream], Callable[[], None]]
"""Begins a failure of an upstream, and returns a function that ends the failure."""


def _reset(upstream: FakeUpstream) -> Callable[[], None]:
    upstream.misbehave("", drop=True)
    upstream.break_off()
    return upstream.behave


def _refusal(upstream: FakeUpstream) -> Callable[[], None]:
    upstream.stop()
    return upstream.start


def _status(status: int) -> Outage:
    def begin(upstream: FakeUpstream) -> Callable[[], None]:
        upstream.misbehave("", status=status)
        upstream.break_off()
        return upstream.behave

    return begin


_OUTAGES: dict[str, Outage] = {
    "reset": _reset,
    "refusal": _refusal,
    "502": _status(502),
    "503": _status(503),
}


@dataclass(frozen=True)
class Case:
    """A failure of an upstream for `seconds` (s), while `lanes` connections fetch a layer.

    `kind` is a key of `_OUTAGES`. With `mirrored`, the upstream has a mirror that breaks off each
    body.
    """

    kind: str
    seconds: float
    lanes: int
    mirrored: bool = False

    def __str__(self) -> str:
        """Return the name of this case in reports."""
        return f"{self.kind}-{self.seconds:g}s-{self.lanes}{'-mirror' if self.mirrored else ''}"


def _cases() -> list[object]:
    """Return the failures to test; most of them are tested in `make soak` only."""
    short = [Case("refusal", 1.0, 4), Case("503", 1.0, 1)]
    kinds = product(_OUTAGES, (0.5, 1.0, *_LONG), (1, 4), (False, True))
    others = [case for each in kinds if (case := Case(*each)) not in short]
    soak = [pytest.param(each, id=str(each), marks=pytest.mark.soak) for each in others]
    return [*(pytest.param(each, id=str(each)) for each in short), *soak]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", _cases())
def test_clients_do_not_notice_an_outage_in_the_middle_of_a_layer(
    start: Start, fake: FakeUpstream, case: Case
) -> None:
    """A short failure in the middle of a layer breaks no pull, and few bytes are sent twice."""
    content = filler(_SIZE, 41)
    with ExitStack() as stack:
        mirrors = [_broken_mirror(stack, content)] if case.mirrored else []
        appliance, path = _appliance(start, fake, content, lanes=case.lanes, mirrors=mirrors)
        fake.misbehave("/blobs/", rate=_RATE)

        readers = [Reader(appliance.http, path).begin() for _ in range(_CLIENTS)]
        eventually(lambda: fake.bytes_sent > 2 * MB, what="the layer arrives")
        end = _OUTAGES[case.kind](fake)
        threading.Timer(case.seconds, end).start()
        end_all(readers)

    assert all(each.has(Digest.of(content)) for each in readers)
    assert fake.bytes_sent <= _MOST_SENT * _SIZE


@pytest.mark.timeout(180)
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize(
    "seconds",
    [pytest.param(each, marks=pytest.mark.soak) for each in (0.5, 1.0, *_LONG)],
)
def test_clients_do_not_notice_a_stall_in_the_middle_of_a_layer(
    start: Start, fake: FakeUpstream, seconds: float, lanes: int
) -> None:
    """An upstream that stops sending in the middle of a layer breaks no pull.

    For a while the upstream sends no byte, neither in the response that it has begun nor to new
    requests.
    """
    content = filler(_SIZE, 42)
    over = threading.Event()
    appliance, path = _appliance(start, fake, content, lanes=lanes)
    fake.misbehave("/blobs/", hold=over)
    fake.misbehave("/blobs/", times=lanes, hold=over, hold_after=MB)

    readers = [Reader(appliance.http, path).begin() for _ in range(_CLIENTS)]
    eventually(lambda: fake.bytes_sent >= MB, what="the layer arrives")
    threading.Timer(seconds, over.set).start()
    end_all(readers)

    assert all(each.has(Digest.of(content)) for each in readers)
    assert fake.bytes_sent <= _MOST_SENT * _SIZE


@pytest.mark.timeout(180)
def test_pulls_that_begin_during_an_outage_succeed(start: Start, fake: FakeUpstream) -> None:
    """Many clients begin to pull different blobs during a short failure, and all succeed."""
    digests = [fake.add_blob("app", filler(50_000, 1000 + number)) for number in range(_AT_ONCE)]
    appliance, _ = _appliance(start, fake, b"layer")
    fake.stop()

    readers = [Reader(appliance.http, blob_path(_NAME, each)).begin() for each in digests]
    threading.Timer(scaled(2, 10), fake.start).start()
    end_all(readers)

    assert all(each.has(digest) for each, digest in zip(readers, digests, strict=True))


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_an_outage_of_a_minute_ends_in_an_error(start: Start, fake: FakeUpstream) -> None:
    """If an upstream keeps failing, the client gets an error after the read time-out (30 s)."""
    appliance, path = _appliance(start, fake, filler(50_000, 7))
    fake.misbehave("/blobs/", drop=True)

    began = time.monotonic()
    response = appliance.http.get(path)

    assert response.status in (502, 503)
    assert time.monotonic() - began >= 29


def _appliance(
    start: Start,
    fake: FakeUpstream,
    content: bytes,
    *,
    lanes: int = 4,
    mirrors: Sequence[str] = (),
) -> tuple[Appliance, str]:
    """Start an appliance, pull the manifest of an image, and return the appliance.

    Also return the path of the image's layer, which is not pulled yet.
    """
    fake.add_image("app", "v1", [content])
    upstream = {"url": fake.url, "mirrors": list(mirrors)}
    appliance = start(Setup({"one.test": upstream}, environment={"ENTREPOT_LANES": str(lanes)}))
    pull_manifest(appliance.http, _NAME, "v1")
    return appliance, blob_path(_NAME, Digest.of(content))


def _broken_mirror(stack: ExitStack, content: bytes) -> str:
    """Run a mirror that breaks off each body, and return its URL."""
    mirror = stack.enter_context(FakeUpstream())
    mirror.add_image("app", "v1", [content])
    mirror.misbehave("/blobs/", cut=MB)
    return mirror.url
