"""While the wall clock is wrong, rounds and maintenance remove nothing on account of age."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.maintenance.dangling_links import DanglingLinks
from entrepot.cleaner.maintenance.garbage import Garbage
from entrepot.cleaner.maintenance.leftovers import Leftovers
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.runtime.clock import Clock
from tests.cleaner.stock import HOSTED, PROXIED, cost, pull, push

_DAY = 86400.0


class Wall:
    """A wall clock that is wrong by `off` seconds; a test sets `off`."""

    def __init__(self, now: float) -> None:
        self.start = now
        self.up = 1000.0
        self.off = 0.0

    def __call__(self) -> float:
        """Return the time that the wall clock shows (seconds since the UTC epoch)."""
        return self.start + self.up + self.off


@pytest.fixture
def wall(clock: object) -> Wall:
    """Return a correct wall clock; the system has run for 1,000 s."""
    assert callable(clock)
    return Wall(clock() - 1000)


@pytest.fixture
def time_of(wall: Wall) -> Clock:
    """Return the appliance's clock."""
    return Clock(wall=wall, elapsed=lambda: wall.up, boot=lambda: "boot")


class _OpenBarrier:
    blind = 0.0

    def fetch(self) -> str:
        return ""


def _rounds(
    store: DataDirectory, clock: Clock, bounds: StoreLimits, rules: RetentionRules | None = None
) -> Rounds:
    tools = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_OpenBarrier(),
        clock=clock,
        stopped=lambda: False,
    )
    return Rounds(tools, bounds, rules)


@pytest.mark.parametrize("jump", [40 * _DAY, _DAY, -3600.0], ids=["40d", "1d", "-1h"])
def test_nothing_expires_during_a_clock_jump(
    store: DataDirectory, wall: Wall, time_of: Clock, jump: float
) -> None:
    """While the wall clock is wrong, neither proxied nor hosted content expires.

    After the clock is correct again, old content expires.
    """
    now = time_of()
    young = pull(store, 1, used=now - 60), push(store, 2, used=now - 60)
    old = pull(store, 3, used=now - 10 * _DAY)
    rules = RetentionRules(otherwise=RetentionRule(ttl=7 * _DAY))
    rounds = _rounds(store, time_of, StoreLimits(ttl=7 * _DAY), rules)
    wall.off = jump
    time_of.keep()

    rounds.run(0)
    assert all(all(each.is_here(store)) for each in (*young, old))

    wall.off = 0.0
    time_of.keep()
    rounds.run(0)
    assert all(all(each.is_here(store)) for each in young)
    assert not any(old.is_here(store))


def test_eviction_for_size_orders_by_real_use_after_a_clock_jump(
    store: DataDirectory, wall: Wall, time_of: Clock
) -> None:
    """If content was used while the wall clock was wrong, its last use is still correct.

    So eviction for size removes the content in the real order of the last uses.
    """
    images = []
    for seed, off in enumerate((0.0, 40 * _DAY, 0.0, -3600.0, -3600.0)):
        wall.off = off
        wall.up += 10
        time_of.keep()
        images.append(pull(store, seed, used=time_of()))
    target = 2 * cost() + cost() // 2

    _rounds(store, time_of, StoreLimits(0, target, target, target)).run(0)

    here = [all(image.is_here(store)) for image in images]
    assert here == [False, False, False, True, True]


def test_maintenance_removes_nothing_during_a_clock_jump(
    store: DataDirectory, wall: Wall, time_of: Clock, tmp_path: Path
) -> None:
    """While the wall clock is wrong, maintenance removes nothing on account of age.

    Spool files, uploads, dangling links, unlinked content and unfinished files stay.
    """
    digest = Digest.of(b"coming")
    spooled = store.spool / layout.spool(digest)
    upload = store.state / layout.UPLOADS / layout.upload(HOSTED, "0" * 8)
    unfinished = tmp_path / "data" / f"{layout.origin(PROXIED)}~unfinished"
    for path in (spooled, upload, unfinished):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time_of() - 10, time_of() - 10))
    store.repositories.set_origin(PROXIED, "quay.io")
    store.repositories.link_blob(PROXIED, digest)
    wall.off = 400 * _DAY
    time_of.keep()

    spool = Spool(store, time_of)
    spool.settle()
    spool.make_room(lambda: not spooled.exists())
    assert upload.exists()
    DanglingLinks(store, time_of, lambda: False).sweep()
    Leftovers(store, time_of, lambda: False).purge_unfinished()
    garbage = Garbage(store, 60.0, time_of).plan(
        HostedSnapshot(HostedRepositories(store), RetentionRules(), time_of).open()
    )

    assert list(garbage) == []
    assert unfinished.exists()
    assert store.repositories.links_blob(PROXIED, digest)
    assert list(AbandonedUploads(store).abandoned(time_of.before(1.0))) == []


def test_a_prefetched_layer_does_not_count_as_unused_during_a_clock_jump(
    store: DataDirectory, wall: Wall, time_of: Clock
) -> None:
    """While the wall clock is wrong, no prefetched layer counts as unused.

    By the wrong clock, a layer that was prefetched a minute ago could seem old.
    """
    rounds = _rounds(store, time_of, StoreLimits(0, 0, 0, 0))
    assert rounds._unused_before() == time_of() - 600
    wall.off = _DAY

    assert rounds._unused_before() == -math.inf
