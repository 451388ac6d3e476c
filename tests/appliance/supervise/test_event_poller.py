"""Test `EventPoller`, with which supervisord waits for events instead of polling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from supervisor.states import ProcessStates

from entrepot.appliance.supervise.event_poller import EventPoller
from entrepot.appliance.supervise.supervisord import is_settled
from tests.processes import run

SIGNALLED = """
import os, signal, threading
from entrepot.appliance.supervise.event_poller import EventPoller

poller = EventPoller(None)
poller.is_settled = lambda: True
poller.watch_signals()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1]).start()
print(poller.poll(1))
poller.close()
"""


def state(number: int, *, started: float = 1.0) -> SimpleNamespace:
    """Return supervisord with one program in the state *number*, started at *started*."""
    program = SimpleNamespace(get_state=lambda: number, laststart=started)
    group = SimpleNamespace(processes={"logger": program})
    return SimpleNamespace(process_groups={"behind": group})


def test_a_signal_ends_a_wait() -> None:
    """A signal ends supervisord's wait at once, although Python resumes an interrupted poll."""
    assert run(SIGNALLED).split("\n")[:2] == ["handled", "([], [])"]


def test_the_next_signal_is_handled_without_a_wait() -> None:
    """If two signals arrive, supervisord handles the second one at once, not a minute later.

    Supervisord handles only one signal after each wait for events.
    """
    poller = EventPoller(None)
    poller.is_settled = lambda: True
    assert poller._seconds() == 60
    poller.has_signals = True

    assert poller._seconds() == 0


@pytest.mark.parametrize(
    ("number", "is_quiet"),
    [
        (ProcessStates.RUNNING, True),
        (ProcessStates.FATAL, True),
        (ProcessStates.STOPPED, True),
        (ProcessStates.STARTING, False),
        (ProcessStates.BACKOFF, False),
        (ProcessStates.EXITED, False),
        (ProcessStates.STOPPING, False),
    ],
)
def test_a_program_that_starts_or_stops_needs_time_outs(number: int, *, is_quiet: bool) -> None:
    """While a program starts or stops, supervisord's waits are short.

    Supervisord may have to change the program's state at a time that no event announces.
    """
    assert is_settled(state(number)) is is_quiet


def test_a_program_that_was_never_started_is_started_at_once() -> None:
    """Supervisord starts programs in its first round, so that round must not wait for an event."""
    assert not is_settled(state(ProcessStates.STOPPED, started=0))
