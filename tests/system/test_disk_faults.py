"""While the disk fails for two seconds, proxied content can be pulled; pushes get 503.

Afterwards pushes succeed. No program is restarted. `make soak` also tests each system call alone,
with each error in `_ERRORS`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import Image, filler, image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.faulty_disk import CALLS, FaultyDisk
from tests.system.images import FULL, KB, MB
from tests.system.pulls import Reader, blob_path, manifest_path, pull
from tests.system.pushes import push, put_manifest
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_NAME = "one.test/app"
_LASTS_S = 2.0
_SOON_S = 5.0
_ERRORS = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES, errno.ESTALE)


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    """Return a disk whose system calls work until the test makes them fail."""
    return FaultyDisk(tmp_path / "disk")


def _made(seed: int) -> Image:
    return image([filler(300 * KB, seed), filler(100 * KB, seed + 1)], command=(str(seed),))


@contextmanager
def _broken(disk: FaultyDisk, number: int, call: str = "*") -> Iterator[threading.Event]:
    """Make system calls fail until the end of the `with` block, but for at least two seconds.

    The yielded event is set after two seconds.
    """
    over = threading.Event()
    timer = threading.Timer(_LASTS_S, over.set)
    disk.fail(number, call)
    timer.start()
    try:
        yield over
        over.wait()
    finally:
        timer.cancel()
        disk.behave()


def _begin(start: Start, fake: FakeUpstream, disk: FaultyDisk) -> Appliance:
    limits = {"CLEANER_MAXSIZE": str(40 * MB), "CLEANER_RUNEVERY_TIME": "1s"}
    environment = {**disk.environment, **limits, "ENTREPOT_WORKERS": "2"}
    return start(Setup({"one.test": {"url": fake.url}}, environment=environment))


def _has(appliance: Appliance, made: Image) -> bool:
    contents = (made.manifest, *made.blobs)
    return all((appliance.data / layout.blob(Digest.of(each))).exists() for each in contents)


def _recovers(appliance: Appliance, fake: FakeUpstream, number: int) -> None:
    """Wait until a cold pull and a push are stored, and assert that a warm pull succeeds."""
    cold = fake.put_image("app", f"cold{number}", _made(1000 + number * 10))

    def is_stored() -> bool:
        assert pull(appliance.http, _NAME, f"cold{number}")[0] == cold.digest
        return _has(appliance, cold)

    eventually(is_stored, what="cold pulls are stored again", pause=0.3)
    assert pull(appliance.http, _NAME, "warm")
    pushed = _made(2000 + number * 10)
    eventually(
        lambda: push(appliance.http, "team/app", "again", pushed),
        what="pushes work",
        within=_SOON_S,
    )
    assert pull(appliance.http, "team/app", "again")[0] == pushed.digest


def _programs(appliance: Appliance) -> list[int]:
    """Return the process ids of all programs and workers of the appliance."""
    found = [appliance.program(name) for name in ("registry", "logger", "cleaner", "haproxy")]
    return [each.pid for each in (*found, *appliance.workers()) if each]


def test_a_disk_that_fails_for_two_seconds_costs_no_pull_and_no_restart(
    start: Start, fake: FakeUpstream, disk: FaultyDisk
) -> None:
    """While the disk fails, proxied content comes from the upstream, and hosted content gets 503.

    No program of the appliance is restarted.
    """
    appliance = _begin(start, fake, disk)
    warm, hosted = fake.put_image("app", "warm", _made(1)), _made(5)
    assert pull(appliance.http, _NAME, "warm")
    assert push(appliance.http, "team/app", "v1", hosted)
    assert pull(appliance.http, _NAME, "warm")  # This pull fills HAProxy's cache.
    programs = _programs(appliance)
    large = fake.add_blob("app", filler(4 * MB, 90))
    fake.misbehave(f"/blobs/{large}", method="GET", rate=2 * MB)
    beside = Reader(appliance.http, blob_path(_NAME, large)).begin()

    with _broken(disk, errno.EIO) as over:
        number = 0
        while not over.is_set():
            number += 1
            cold = fake.put_image("app", f"c{number}", _made(100 + 10 * number))
            assert _uncached(appliance, warm) == [200, 200, 206, 206]
            assert pull(appliance.http, _NAME, f"c{number}")[0] == cold.digest
            response = appliance.http.get(blob_path("team/app", Digest.of(hosted.layers[0])))
            assert (response.status, "retry-after" in response.headers) == (503, True)
            refused = put_manifest(
                appliance.http, "team/app", "v2", hosted.manifest, hosted.media_type
            )
            assert (refused.status, "retry-after" in refused.headers) == (503, True)
    beside.end()

    _recovers(appliance, fake, 0)
    assert appliance.http.get(blob_path(_NAME, large)).status == 200
    assert _programs(appliance) == programs
    assert pull(appliance.http, "team/app", "v1")[0] == hosted.digest


def _uncached(appliance: Appliance, made: Image) -> list[int]:
    """Request the tag `warm`, and the manifest, config and a layer of *made*; return the statuses.

    The requests have a Range, so HAProxy sends them to a worker and not to its cache. The worker
    ignores the Range of a manifest.
    """
    paths = (
        manifest_path(_NAME, "warm"),
        manifest_path(_NAME, made.digest),
        blob_path(_NAME, Digest.of(made.config)),
        blob_path(_NAME, Digest.of(made.layers[0])),
    )
    answers = [appliance.http.get(path, Range="bytes=0-") for path in paths]
    sources = [each.headers["cache-status"] for each in answers]
    assert [each for each in sources if "detail=memory" in each] == []
    return [each.status for each in answers]


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="each call by itself takes minutes")
@pytest.mark.parametrize("call", CALLS)
def test_each_call_may_fail_for_two_seconds(
    start: Start, fake: FakeUpstream, disk: FaultyDisk, call: str
) -> None:
    """While one system call fails for two seconds, pulls succeed; afterwards pushes succeed."""
    appliance = _begin(start, fake, disk)
    warm = fake.put_image("app", "warm", _made(1))
    assert pull(appliance.http, _NAME, "warm")
    programs = _programs(appliance)
    for number, error in enumerate(_ERRORS):
        with _broken(disk, error, call) as over:
            with suppress(AssertionError):  # the appliance may refuse any step of the push
                push(appliance.http, "team/app", "v1", _made(5 + number))
            while not over.is_set():
                assert pull(appliance.http, _NAME, "warm")
                assert _uncached(appliance, warm) == [200, 200, 206, 206]
        _recovers(appliance, fake, 1 + number)

    assert _programs(appliance) == programs
