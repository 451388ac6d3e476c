"""If the wall clock jumps, the cleaner evicts nothing by age, and the order of uses is kept.

In `make soak` each jump lasts longer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import Image, filler, image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB, MB, scaled
from tests.system.pulls import pull
from tests.system.pushes import push
from tests.system.waiting import eventually
from tests.system.wall_clock import WallClock
from tests.upstream import FakeUpstream

_DAY = 86400.0
_JUMPS = (40 * _DAY, _DAY, -3600.0)
_LASTS = scaled(1, 8)  # the number of the cleaner's rounds during each jump
_SIZE = 400 * KB
_MAXIMUM = 8 * MB
_WARNING = "wall clock jumped"
_RETENTION = {
    "cleaner": {"ttl": "2d", "runevery": "1s", "maxsize": _MAXIMUM},
    "hosted": {"team/**": {"ttl": "7d"}},
}


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """Return a wall clock for the appliance; the clock shows the right time at first."""
    return WallClock(tmp_path / "wall")


def _made(seed: int) -> Image:
    return image([filler(_SIZE, seed)], command=(str(seed),))


def _holds(appliance: Appliance, made: Image) -> bool:
    contents = (made.manifest, *made.blobs)
    return all((appliance.data / layout.blob(Digest.of(each))).exists() for each in contents)


def _begin(start: Start, fake: FakeUpstream, wall: WallClock) -> Appliance:
    upstreams = {"one.test": {"url": fake.url}}
    return start(Setup(upstreams, _RETENTION, wall.environment))


def _moved(appliance: Appliance) -> Callable[[], bool]:
    """Return a function that returns True after the appliance has noticed another clock jump."""
    before = appliance.metric("entrepot_clock_jumps_total")
    return lambda: appliance.metric("entrepot_clock_jumps_total") > before


def test_a_jump_evicts_nothing_by_age_and_keeps_the_order_of_use(
    start: Start, fake: FakeUpstream, wall: WallClock
) -> None:
    """While the wall clock is wrong, no pulled or pushed image expires.

    A warning, a metric and `entrepot status` report each jump once.
    """
    appliance = _begin(start, fake, wall)
    pushed = _made(1)
    assert push(appliance.http, "team/app", "v1", pushed)
    images = [fake.put_image("app", f"v{n}", _made(10 + n)) for n in range(5)]
    for number in range(5):
        assert pull(appliance.http, "one.test/app", f"v{number}")

    for number, jump in enumerate(_JUMPS):
        has_moved = _moved(appliance)
        wall.move(jump)
        eventually(has_moved, what="the jump is noticed")
        assert pull(appliance.http, "one.test/app", f"v{number}")
        assert "the wall clock jumped" in appliance.entrepot("status").stdout
        assert appliance.metric("entrepot_clock_offset_seconds") == pytest.approx(jump, abs=2)
        _cleaner_looks(appliance)
        wall.move(0.0)
        eventually(lambda: not _offset(appliance), what="the wall clock is correct again")
    assert pull(appliance.http, "one.test/app", "v3")
    _cleaner_looks(appliance)
    assert all(_holds(appliance, each) for each in (pushed, *images))
    assert appliance.output().count(_WARNING) == len(_JUMPS)
    assert appliance.metric("entrepot_evictions_total") == 0

    _fill(appliance, fake)
    order = [images[number] for number in (4, 0, 1, 2, 3)]
    eventually(lambda: not _holds(appliance, order[0]), what="the least recently used is evicted")
    left = [_holds(appliance, each) for each in order]
    assert left == sorted(left)
    assert _holds(appliance, pushed)


def _offset(appliance: Appliance) -> float:
    return appliance.metric("entrepot_clock_offset_seconds")


def _cleaner_looks(appliance: Appliance) -> None:
    """Run some rounds of the cleaner, each with `entrepot clean --once`."""
    for _ in range(_LASTS):
        done = appliance.entrepot("clean", "--once")
        assert done.returncode == 0, done.stderr


def _fill(appliance: Appliance, fake: FakeUpstream) -> None:
    """Pull other images until the cleaner evicts content for lack of space."""
    for number in range(2 * _MAXIMUM // _SIZE):
        fake.put_image("app", f"more{number}", _made(100 + number))
        assert pull(appliance.http, "one.test/app", f"more{number}")
        if appliance.metric("entrepot_evictions_total"):
            return


def test_an_appliance_that_starts_with_a_wrong_clock_evicts_nothing(
    start: Start, fake: FakeUpstream, wall: WallClock
) -> None:
    """An appliance that is started with a wrong clock evicts nothing by age."""
    appliance = _begin(start, fake, wall)
    pushed, pulled = _made(1), fake.put_image("app", "v1", _made(2))
    assert push(appliance.http, "team/app", "v1", pushed)
    assert pull(appliance.http, "one.test/app", "v1")
    assert appliance.stop() == 0
    wall.move(40 * _DAY)

    appliance.start()
    eventually(lambda: _WARNING in appliance.output(), what="the wrong clock is logged")
    _cleaner_looks(appliance)

    assert _holds(appliance, pushed)
    assert _holds(appliance, pulled)
