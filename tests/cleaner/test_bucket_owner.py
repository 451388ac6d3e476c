"""The cleaner renews the claim on a bucket, and logs each change once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from entrepot.cleaner.bucket_owner import BucketOwner
from entrepot.datastore.errors import StorageBroken


@dataclass
class _Claim:
    """A claim whose renewals have the given outcomes; `None` fails."""

    outcomes: list[bool | None]
    is_held: bool | None = None
    called: Callable[[], None] = field(default=lambda: None)

    def renew(self) -> bool:
        """Have the next outcome."""
        self.called()
        outcome = self.outcomes.pop(0)
        if outcome is None:
            raise StorageBroken("no answer")
        self.is_held = outcome
        return outcome

    def release(self) -> None:
        """Do nothing."""


def _turns(outcomes: list[bool | None]) -> list[float]:
    owner = BucketOwner(_Claim(list(outcomes)), threading.Event())
    return [owner.turn() for _ in outcomes]


def test_a_failed_renewal_is_repeated_soon(caplog: pytest.LogCaptureFixture) -> None:
    """The claim lapses after 45 s; the failures are one warning, and the end of them one line."""
    caplog.set_level(logging.INFO)

    assert _turns([True, None, None, True, True]) == [15.0, 2.0, 2.0, 15.0, 15.0]
    assert [each.getMessage() for each in caplog.records] == [
        "the claim on the bucket was not renewed",
        "this appliance owns the bucket",
    ]


def test_the_bucket_of_another_appliance_becomes_ours(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for as often as an own claim is renewed."""
    caplog.set_level(logging.INFO)

    assert _turns([False, False, True]) == [15.0, 15.0, 15.0]
    assert [each.getMessage() for each in caplog.records] == ["this appliance owns the bucket"]


def test_the_thread_ends_with_the_cleaner() -> None:
    """The first renewal does not wait."""
    stop, renewed = threading.Event(), threading.Event()
    owner = BucketOwner(_Claim([True], called=renewed.set), stop)
    owner.start()

    assert renewed.wait(30)
    stop.set()
    for thread in threading.enumerate():
        if thread.name == "bucket owner":
            thread.join(30)
            assert not thread.is_alive()
