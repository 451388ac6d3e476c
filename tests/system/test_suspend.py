"""Tests that no process exits after a suspension, and that the appliance works afterwards.

The tests suspend processes with SIGSTOP, and continue them with SIGCONT.

`podman pause`, Ctrl-Z with `fg`, a debugger and a suspended machine have the same effect.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.pulls import blob_path
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ENVIRONMENT = {"ENTREPOT_WORKERS": "2", "ENTREPOT_PREFETCH": "0", "REGISTRY_LOG_LEVEL": "info"}
SPANS = [0.2, 2.0, pytest.param(40.0, marks=pytest.mark.soak)]
ENDINGS = ("ended", "could not stay up", "no_answer", "Traceback", "WORKER TIMEOUT")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeUpstream]:
    """Run an upstream for all tests of this file."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, fake: FakeUpstream) -> Iterator[Appliance]:
    """Run one appliance that the tests suspend and continue; it exits with 0 at the end."""
    setup = Setup({"one.test": {"url": fake.url}}, environment=ENVIRONMENT)
    with Appliance(tmp_path_factory.mktemp("suspended"), setup) as running:
        eventually(lambda: "serving" in running.output(), what="the appliance serves")
        yield running
        code = running.stop()
    assert code == 0


@pytest.mark.parametrize("seconds", SPANS)
def test_all_processes_continue_after_being_stopped_together(
    appliance: Appliance, fake: FakeUpstream, seconds: float
) -> None:
    """All processes are suspended together, as in a frozen container, and resume after SIGCONT.

    No process has been replaced, and the log has no error.
    """
    start = len(appliance.output())
    before = _pids(appliance)

    _suspend([each.pid for each in appliance.processes()], seconds)

    _serves(appliance, fake)
    assert before <= _pids(appliance)
    assert not _complaints(appliance, start)


@pytest.mark.timeout(900)  # about ten processes are suspended one after the other
@pytest.mark.parametrize("seconds", SPANS)
def test_each_process_continues_after_being_stopped_alone(
    appliance: Appliance, fake: FakeUpstream, seconds: float
) -> None:
    """Each process of the appliance is suspended alone for a while, and works again after SIGCONT.

    Only requests during the suspension may fail.
    """
    start = len(appliance.output())
    chosen = sorted(_pids(appliance)) if seconds != 2 else _some(appliance)
    for pid in chosen:
        if _lives(pid):
            _suspend([pid], seconds)
            _serves(appliance, fake)

    assert not [line for line in _complaints(appliance, start) if "TIMEOUT" not in line]


def _some(appliance: Appliance) -> list[int]:
    """Return the ids of `serve` and supervisord, which wait for other programs with a deadline."""
    found = appliance.processes()
    chosen = [each.pid for each in found if "serve" in each.argv or "supervisord" in each.argv]
    assert len(chosen) == 2, found
    return chosen


def _pids(appliance: Appliance) -> set[int]:
    return {each.pid for each in appliance.processes()}


def _suspend(pids: Sequence[int], seconds: float) -> None:
    """Suspend the processes *pids* for *seconds*, and continue them."""
    _send(pids, signal.SIGSTOP)
    time.sleep(seconds)
    _send(pids, signal.SIGCONT)


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _serves(appliance: Appliance, fake: FakeUpstream) -> None:
    """Assert that a new pull, its log line, and `entrepot status` work."""
    digest = fake.add_blob("app", filler(4096, time.monotonic_ns() % 1_000_000))
    eventually(lambda: _pulls(appliance, digest), what="a pull works again", within=20)
    log = appliance.state / layout.ACCESS_LOG
    eventually(lambda: str(digest) in log.read_text(), what="the pull is in the access log")
    eventually(lambda: appliance.entrepot("status").returncode == 0, what="status works again")


def _pulls(appliance: Appliance, digest: Digest) -> bool:
    try:
        return appliance.http.get(blob_path("one.test/app", digest)).status == 200
    except (OSError, HTTPException):
        return False


def _complaints(appliance: Appliance, start: int) -> list[str]:
    lines = appliance.output()[start:].splitlines()
    return [line for line in lines if any(each in line for each in ENDINGS)]
