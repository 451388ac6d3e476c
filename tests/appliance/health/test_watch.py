"""Test `HealthWatch`, whose threads run the health checks and publish the failing ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from entrepot.appliance.health.checks import Check
from entrepot.appliance.health.watch import HealthWatch
from tests.clock import Clock

_SOON = 10.0


class _Published:
    """Receives the failing checks in place of HAProxy; the first *rejected* calls return False."""

    def __init__(self, rejected: int = 0) -> None:
        self._rejected = rejected
        self._seen: queue.Queue[dict[str, str]] = queue.Queue()

    def __call__(self, failing: Mapping[str, str]) -> bool:
        self._seen.put(dict(failing))
        self._rejected -= 1
        return self._rejected < 0

    def next(self) -> dict[str, str]:
        """Wait for the next call, and return the failing checks of this call with their reasons."""
        return self._seen.get(timeout=_SOON)


class _Result:
    """A check whose result a test sets."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def __call__(self) -> str:
        return self.reason


@contextmanager
def _watching(published: _Published, *checks: Check) -> Iterator[None]:
    watch = HealthWatch(checks, published)
    watch.start()
    yield
    watch.stop()


def test_a_failure_and_its_end_are_published() -> None:
    """Each change of the failing checks is published once, with the reasons of the failures."""
    published, result = _Published(), _Result("file exists")
    with _watching(published, Check("/down", result, 0.01, 0, 0)):
        assert published.next() == {"/down": "file exists"}
        result.reason = ""
        assert published.next() == {}


def test_a_publication_that_failed_is_repeated() -> None:
    """If HAProxy could not be informed of the failing checks, the thread tries again."""
    published = _Published(rejected=2)
    with _watching(published, Check("a", _Result("down"), 0.01, 0, 0)):
        assert [published.next() for _ in range(3)] == [{"a": "down"}] * 3


def test_a_check_that_hangs_fails_and_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that hangs on a network disk fails, and the other checks still run."""
    published, gate, clock = _Published(), threading.Event(), Clock(0.0)
    time = SimpleNamespace(monotonic=clock)
    monkeypatch.setattr("entrepot.appliance.health.watch.time", time)

    def hang() -> str:
        clock.now = 0.1
        gate.wait(_SOON)
        return ""

    with _watching(published, Check("disk", hang, 0.05, 0, 2), Check("b", _Result(), 0.01, 0, 0)):
        assert published.next() == {"disk": "no result for 0.1 s"}
        gate.set()
        while found := published.next():
            assert list(found) == ["disk"]


def test_a_check_with_a_fault_of_its_own_fails() -> None:
    """An unexpected exception of a check is a failure.

    The check would pass for ever if the exception ended the thread of the check.
    """
    published = _Published()

    def broken() -> str:
        raise KeyError("odd")

    with _watching(published, Check("a", broken, 0.01, 0, 0)):
        assert published.next() == {"a": "KeyError: 'odd'"}
