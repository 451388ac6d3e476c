"""Test state.json, which is written only while a reader requests the state."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance import state_file
from entrepot.appliance.state_file import Status
from entrepot.runtime import run_names
from tests.appliance.haproxy import eventually
from tests.appliance.test_status import SEEN


class Gatherer:
    """A stand-in that gathers the state; the up time in this state is the number of calls.

    A call raises `error`, if that is set.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    def __call__(self) -> Status:
        """Return the next state, or raise the error."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        return replace(SEEN, up=float(self.calls))


class Clock:
    """A clock that only `pause` advances; `requests` maps a number of pauses to a file to touch."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses = 0
        self.requests: dict[int, Path] = {}

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def pause(self, seconds: float) -> None:
        """Advance the clock, and touch the file that `requests` has for this number of pauses."""
        self.now += seconds
        self.pauses += 1
        if path := self.requests.get(self.pauses):
            os.utime(path, ns=(self.pauses, self.pauses))


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    """Return the request file of a run directory, which a reader has touched."""
    path = tmp_path / run_names.STATE_REQUEST
    path.touch()
    return path


def test_the_state_is_written_for_a_minute_after_a_request(
    tmp_path: Path, request_file: Path
) -> None:
    """After a request, the state is written once a second for a minute; then the process ends."""
    clock, gather = Clock(), Gatherer()

    state_file.write_while_requested(tmp_path, gather, clock, clock.pause)

    assert gather.calls == 60
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        run_names.STATE,
        request_file.name,
    ]


def test_the_state_is_written_for_a_minute_after_the_last_request(
    tmp_path: Path, request_file: Path
) -> None:
    """After another request, the state is written until a minute after that request."""
    clock, gather = Clock(), Gatherer()
    clock.requests[50] = request_file

    state_file.write_while_requested(tmp_path, gather, clock, clock.pause)

    assert gather.calls == 110


def test_a_state_that_cannot_be_gathered_is_tried_again(tmp_path: Path, request_file: Path) -> None:
    """If the state cannot be gathered, no file is written; the next attempt is a second later."""
    clock, gather = Clock(), Gatherer()
    gather.error = OSError("the disk is gone")

    state_file.write_while_requested(tmp_path, gather, clock, clock.pause)

    assert gather.calls == 60
    assert list(tmp_path.iterdir()) == [request_file]


def test_a_reader_gets_the_whole_state_as_it_is_after_the_request(tmp_path: Path) -> None:
    """A reader gets every field of the state, gathered after the reader's request."""
    (tmp_path / run_names.STATE).write_text("{}")
    found: list[Status | None] = []
    reader = threading.Thread(target=lambda: found.append(state_file.read(tmp_path, 60)))
    reader.start()
    while not (tmp_path / run_names.STATE_REQUEST).exists():
        reader.join(0.01)

    clock = Clock()
    state_file.write_while_requested(tmp_path, lambda: SEEN, clock, clock.pause)
    reader.join()

    assert found == [SEEN]


def test_without_an_appliance_that_writes_the_state_a_reader_waits_no_longer(
    tmp_path: Path,
) -> None:
    """If `serve` writes no new state in time, a reader gets none, even if an old file exists.

    `serve` may have been killed, so an old state.json may be wrong.
    """
    assert state_file.read(tmp_path, patience=0.05) is None
    (tmp_path / run_names.STATE).write_text("{}")
    assert state_file.read(tmp_path, patience=0.05) is None
    assert state_file.read(tmp_path / "none", patience=0.05) is None


def test_a_state_of_another_version_is_not_used(tmp_path: Path) -> None:
    """`read` returns None for a state of another version; the caller gathers the state itself."""
    reader = threading.Thread(
        target=lambda: (
            eventually((tmp_path / run_names.STATE_REQUEST).exists)
            and (tmp_path / run_names.STATE).write_text('{"url": 1}')
        )
    )
    reader.start()

    assert state_file.read(tmp_path, patience=5.0) is None
    reader.join()
