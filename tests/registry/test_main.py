"""A worker's circuit breakers write events and, when they open, raise the cache epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.accesslog import Event, parse_event
from entrepot.edge import cache_epoch
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.registry.events import BreakerEvents, Events
from entrepot.registry.upstream.breaker import Breaker, Pass, UpstreamFailure
from entrepot.runtime import run_names
from entrepot.runtime.clock import Clock
from tests.registry.worker_modules import worker_modules

pytestmark = pytest.mark.slow

DEAD = UpstreamFailure("timeout", at_once=True)


def _breaker(folder: Path) -> tuple[Breaker, CacheEpoch]:
    cache_epoch.begin(folder)
    number = CacheEpoch(folder)
    report = BreakerEvents(Events(folder / "events.log", Clock()), number.increment)
    return Breaker("one.test", folder / run_names.BREAKERS, report=report), number


def test_an_opening_breaker_raises_the_cache_epoch(tmp_path: Path) -> None:
    """A circuit breaker that opens raises the cache epoch once; later failures do not raise it."""
    breaker, number = _breaker(tmp_path)
    before = int(number.now())
    for _ in range(3):
        breaker.failed(DEAD, Pass())

    assert int(number.now()) == before + 1


def test_a_closing_breaker_does_not_raise_the_cache_epoch(tmp_path: Path) -> None:
    """When a circuit breaker closes, the cache epoch does not change.

    Responses that HAProxy cached while the circuit breaker was open remain valid.
    """
    breaker, number = _breaker(tmp_path)
    breaker.failed(DEAD, Pass())
    before = number.now()
    breaker.answered()

    assert number.now() == before


def test_a_failure_that_opens_no_breaker_does_not_raise_the_cache_epoch(tmp_path: Path) -> None:
    """A failure that does not open the circuit breaker does not raise the cache epoch.

    Otherwise each short failure of an upstream would purge HAProxy's cache.
    """
    breaker, number = _breaker(tmp_path)
    before = number.now()
    breaker.failed(UpstreamFailure("reset"), Pass())

    assert number.now() == before


def test_opening_and_closing_are_events(tmp_path: Path) -> None:
    """A circuit breaker reports an event when it opens and when it closes.

    The logger counts these events in metrics.
    """
    breaker, _ = _breaker(tmp_path)
    breaker.failed(DEAD, Pass())
    breaker.answered()

    lines = (tmp_path / "events.log").read_bytes().splitlines()
    assert [_state(parse_event(line)) for line in lines] == ["open", "closed"]


def _state(event: Event) -> object:
    return event.fields["state"]


def test_the_workers_load_no_extension_unless_it_is_configured() -> None:
    """Without configured error trackers and middleware, workers import none of their modules."""
    extensions = {
        "entrepot.runtime.reporting",
        "entrepot.runtime.entry_points",
        "entrepot.registry.middleware",
        "entrepot.registry.api.repository_hooks",
    }

    assert extensions & worker_modules() == set()


def test_the_workers_load_no_library_of_tokens_unless_tokens_are_configured() -> None:
    """Without configured tokens, workers import no library for tokens.

    In the process from which the workers are forked, the import of PyJWT and cryptography costs 80
    ms and 10 MB.
    """
    assert {"jwt", "cryptography"} & worker_modules() == set()
