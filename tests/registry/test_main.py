"""What the workers' start puts together, where no part alone has it."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.accesslog import Event, parse_event
from entrepot.edge import cache_epoch
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.registry.events import BreakerEvents, Events
from entrepot.registry.upstream.breaker import Breaker, Pass, UpstreamFailure
from entrepot.runtime.clock import Clock

DEAD = UpstreamFailure("timeout", at_once=True)


def _breaker(folder: Path) -> tuple[Breaker, CacheEpoch]:
    cache_epoch.begin(folder)
    number = CacheEpoch(folder)
    report = BreakerEvents(Events(folder / "events.log", Clock()), number.increment)
    return Breaker("one.test", folder / "breakers", report=report), number


def test_a_breaker_that_opens_raises_the_generation(tmp_path: Path) -> None:
    """Once, however many requests find it open."""
    breaker, number = _breaker(tmp_path)
    before = int(number.now())
    for _ in range(3):
        breaker.failed(DEAD, Pass())

    assert int(number.now()) == before + 1


def test_a_breaker_that_closes_raises_nothing(tmp_path: Path) -> None:
    """What is remembered was true all the while."""
    breaker, number = _breaker(tmp_path)
    breaker.failed(DEAD, Pass())
    before = number.now()
    breaker.answered()

    assert number.now() == before


def test_a_failure_that_opens_no_breaker_raises_nothing(tmp_path: Path) -> None:
    """Else each hiccup of an upstream would empty memory."""
    breaker, number = _breaker(tmp_path)
    before = number.now()
    breaker.failed(UpstreamFailure("reset"), Pass())

    assert number.now() == before


def test_both_are_told_as_events(tmp_path: Path) -> None:
    """The metrics count them."""
    breaker, _ = _breaker(tmp_path)
    breaker.failed(DEAD, Pass())
    breaker.answered()

    lines = (tmp_path / "events.log").read_bytes().splitlines()
    assert [_state(parse_event(line)) for line in lines] == ["open", "closed"]


def _state(event: Event) -> object:
    return event.fields["state"]
