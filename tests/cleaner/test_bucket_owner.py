"""`BucketOwner` renews the claim of the appliance on its bucket, and logs each change once."""

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
    """A claim on a bucket whose successive renewals have the given outcomes.

    If the outcome is None, the renewal raises StorageBroken.
    """

    outcomes: list[bool | None]
    is_held: bool | None = None
    called: Callable[[], None] = field(default=lambda: None)

    def renew(self) -> bool:
        """Return or raise the next outcome."""
        self.called()
        outcome = self.outcomes.pop(0)
        if outcome is None:
            raise StorageBroken("no answer")
        self.is_held = outcome
        return outcome

    def release(self) -> None:
        """Release nothing."""


def _turns(outcomes: list[bool | None]) -> list[float]:
    owner = BucketOwner(_Claim(list(outcomes)), threading.Event())
    return [owner.turn() for _ in outcomes]


def test_a_failed_renewal_is_repeated_soon(caplog: pytest.LogCaptureFixture) -> None:
    """If a renewal fails, the cleaner repeats it after 2 s instead of 15 s.

    Several failures in a row cause one warning, and the next success causes one log line.
    """
    caplog.set_level(logging.INFO)

    assert _turns([True, None, None, True, True]) == [15.0, 2.0, 2.0, 15.0, 15.0]
    assert [each.getMessage() for each in caplog.records] == [
        "the claim on the bucket was not renewed",
        "this appliance owns the bucket",
    ]


def test_the_bucket_of_another_appliance_becomes_ours(caplog: pytest.LogCaptureFixture) -> None:
    """While another appliance owns the bucket, the cleaner tries to claim it every 15 s.

    When this appliance becomes the owner, this is logged.
    """
    caplog.set_level(logging.INFO)

    assert _turns([False, False, True]) == [15.0, 15.0, 15.0]
    assert [each.getMessage() for each in caplog.records] == ["this appliance owns the bucket"]


class _Copies:
    """A replacement for the local copies of values; it only counts the calls of `begin_repair`."""

    looked = 0

    def begin_repair(self) -> None:
        """Count the call."""
        self.looked += 1


def test_lost_values_are_written_again_while_the_bucket_is_ours() -> None:
    """After each successful renewal the cleaner starts the repair of lost values.

    If the appliance does not own the bucket, or if the renewal fails, no repair is started.
    """
    copies = _Copies()
    outcomes = [True, False, None, True]
    owner = BucketOwner(_Claim(list(outcomes)), threading.Event(), copies)

    assert [(owner.turn(), copies.looked)[1] for _ in outcomes] == [1, 1, 1, 2]


def test_the_thread_ends_with_the_cleaner() -> None:
    """The thread renews the claim immediately after its start, and ends when the cleaner stops."""
    stop, renewed = threading.Event(), threading.Event()
    owner = BucketOwner(_Claim([True], called=renewed.set), stop)
    owner.start()

    assert renewed.wait(30)
    stop.set()
    for thread in threading.enumerate():
        if thread.name == "bucket owner":
            thread.join(30)
            assert not thread.is_alive()
