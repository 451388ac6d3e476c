"""`serve` writes the overall state into state.json only while a reader requests it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance import state_file
from entrepot.appliance.state_file import StateWriter, Status
from entrepot.runtime import run_names
from tests.appliance.haproxy import eventually
from tests.appliance.test_status import SEEN


class Gatherer:
    """A stand-in for the collection of the state: its up time is the number of calls.

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


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the state be written every 10 ms, not every second."""
    monkeypatch.setattr(state_file, "_EVERY_S", 0.01)


def _read(run: Path, writer: StateWriter, patience: float = 5.0) -> Status | None:
    """Return the state that a reader gets while `serve` looks for requests."""
    found: list[Status | None] = []
    reader = threading.Thread(target=lambda: found.append(state_file.read(run, patience)))
    reader.start()
    while reader.is_alive():
        writer.look()
        reader.join(0.01)
    return found[0]


def _ended(clock: list[float]) -> Callable[[], bool]:
    clock[0] += 61
    return lambda: not [each for each in threading.enumerate() if each.name == "state"]


def test_without_a_reader_the_state_is_not_gathered(tmp_path: Path) -> None:
    """An appliance whose state no program reads does no work for its state."""
    gather = Gatherer()
    (tmp_path / run_names.STATE_REQUEST).touch()  # left by a reader of an earlier start
    writer = StateWriter(tmp_path, gather)
    for _ in range(3):
        writer.look()

    assert (gather.calls, list(tmp_path.glob(run_names.STATE))) == (0, [])


def test_a_reader_gets_the_whole_state_as_it_is_after_the_request(tmp_path: Path) -> None:
    """A reader gets every field of the state, gathered after its own request."""
    clock, gather = [100.0], Gatherer()
    writer = StateWriter(tmp_path, gather, lambda: clock[0])

    first, second = _read(tmp_path, writer), _read(tmp_path, writer)
    eventually(_ended(clock))
    assert first is not None
    assert second is not None
    assert replace(first, up=SEEN.up) == SEEN
    assert second.up > first.up


def test_the_state_is_written_for_a_minute_after_the_last_request(tmp_path: Path) -> None:
    """The state is written for a minute after the last request; then its thread ends."""
    clock, gather = [100.0], Gatherer()
    writer = StateWriter(tmp_path, gather, lambda: clock[0])
    _read(tmp_path, writer)
    clock[0] += 59
    before = gather.calls
    eventually(lambda: gather.calls > before + 2)

    eventually(_ended(clock))
    after = gather.calls
    writer.look()
    assert gather.calls == after
    assert _read(tmp_path, writer) is not None
    eventually(_ended(clock))


def test_after_the_end_of_the_appliance_no_state_is_written(tmp_path: Path) -> None:
    """After the run directory was removed, no thread writes state.json into it any more.

    A thread may still have been collecting the state when `serve` ended.
    """
    begun, ended = threading.Event(), threading.Event()

    def gather() -> Status:
        begun.set()
        ended.wait(60)
        return SEEN

    writer = StateWriter(tmp_path, gather)
    (tmp_path / run_names.STATE_REQUEST).touch()
    writer.look()
    assert begun.wait(60)
    writer.close()
    ended.set()

    eventually(_ended([0.0]))
    assert [each.name for each in tmp_path.iterdir()] == [run_names.STATE_REQUEST]


def test_a_state_that_cannot_be_gathered_leaves_the_reader_to_itself(tmp_path: Path) -> None:
    """If the state cannot be collected, `serve` goes on and tries again at the next request.

    `entrepot status`, which waits for the file, then collects the state itself.
    """
    clock, gather = [100.0], Gatherer()
    gather.error = OSError("the disk is gone")
    writer = StateWriter(tmp_path, gather, lambda: clock[0])

    assert _read(tmp_path, writer, patience=0.2) is None
    gather.error = None
    assert _read(tmp_path, writer) is not None
    eventually(_ended(clock))


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
    """A state of another version is not used: its reader gathers the state itself."""
    reader = threading.Thread(
        target=lambda: (
            eventually((tmp_path / run_names.STATE_REQUEST).exists)
            and (tmp_path / run_names.STATE).write_text('{"url": 1}')
        )
    )
    reader.start()

    assert state_file.read(tmp_path, patience=5.0) is None
    reader.join()
