"""When a program has failed for good, and how that is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from entrepot.appliance.supervise.programs import (
    Program,
    ProgramFailure,
    ProgramWatch,
    SupervisorUnreachable,
    how_it_ended,
    read_all,
    wake,
)


def running(pid: int, state: str = "RUNNING", why: str = "") -> Program:
    """Return what supervisord says of a logger."""
    return Program("logger", state, pid, started=0.0, why=why)


def test_another_process_id_is_a_restart() -> None:
    """A program that ended and has not come back yet is counted when it is back."""
    watch = ProgramWatch(0.0)

    assert [watch.restarted([running(pid)], now=0.0) for pid in (7, 7, 0, 8, 8)] == [
        [],
        [],
        [],
        ["logger"],
        [],
    ]


def test_five_ends_within_a_minute_are_a_failure() -> None:
    """One that dies every ten seconds is never down for long, and of no use."""
    watch = ProgramWatch(0.0)
    for number in range(6):
        watch.restarted([running(100 + number)], now=10.0 * number)

    assert watch.failure([running(105)], now=50.0) == ProgramFailure(
        "logger", "it ended 5 times within 60 s"
    )


def test_five_ends_in_an_hour_are_none() -> None:
    """What comes back and stays for minutes serves."""
    watch = ProgramWatch(0.0)
    for number in range(6):
        watch.restarted([running(100 + number)], now=700.0 * number)

    assert watch.failure([running(105)], now=3500.0) is None


def test_what_supervisord_has_given_up_is_a_failure() -> None:
    """Its own reason goes with it."""
    fatal = running(0, "FATAL", "exited too quickly")

    assert ProgramWatch(0.0).failure([fatal], now=0.0) == ProgramFailure(
        "logger", "exited too quickly"
    )


LOG = [
    "2026-11-22 07:30:34,107 WARN exited: logger (terminated by SIGSEGV; not expected)",
    "2026-11-22 07:30:35,107 WARN exited: cleaner (exit status 1; not expected)",
    "2026-11-22 07:30:36,107 WARN exited: logger (exit status 0; expected)",
]


@pytest.mark.parametrize(
    ("name", "lines", "how"),
    [
        ("logger", LOG, "exit status 0"),
        ("logger", LOG[:1], "terminated by SIGSEGV"),
        ("cleaner", LOG, "exit status 1"),
        ("registry", LOG, ""),
    ],
)
def test_how_a_program_ended_is_in_supervisords_log(name: str, lines: list[str], how: str) -> None:
    """The last line about it counts."""
    assert how_it_ended(name, lines) == how


def test_without_supervisord_there_is_silence(tmp_path: Path) -> None:
    """Whoever asks too early, or too late, is told so."""
    with pytest.raises(SupervisorUnreachable):
        read_all(tmp_path)


def test_an_answer_that_never_comes_is_silence(tmp_path: Path) -> None:
    """A supervisord that was stopped takes the connection, and says nothing."""
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "supervisor.sock"))
        stopped.listen()

        with pytest.raises(SupervisorUnreachable):
            read_all(tmp_path)


def test_a_nudge_is_a_connection_that_says_nothing(tmp_path: Path) -> None:
    """That wakes supervisord; where it has gone already there is nobody to wake."""
    wake(tmp_path)
    with socket.socket(socket.AF_UNIX) as awake:
        awake.bind(str(tmp_path / "supervisor.sock"))
        awake.listen()
        awake.settimeout(5)

        wake(tmp_path)

        connection, _ = awake.accept()
        with connection:
            assert connection.recv(1) == b""


def test_supervisord_may_be_silent_for_a_while_only() -> None:
    """It may be starting, or busy; after half a minute of looks no program would be restarted."""
    watch = ProgramWatch(now=0.0)
    assert [watch.silence(now=float(now)) for now in range(3, 30, 3)] == [None] * 9
    watch.restarted([running(7)], now=29.0)
    assert [watch.silence(now=float(now)) for now in range(32, 59, 3)] == [None] * 9

    assert watch.silence(now=59.0) == ProgramFailure("supervisord", "it has not answered for 30 s")


def test_one_failed_look_after_a_pause_is_no_silence() -> None:
    """A suspended machine, SIGSTOP or a frozen container: nothing looked meanwhile."""
    watch = ProgramWatch(now=0.0)
    watch.restarted([running(7)], now=1.0)

    assert watch.silence(now=3600.0) is None
    assert watch.silence(now=7200.0) is None
    assert watch.restarted([running(7)], now=7201.0) == []
    assert watch.silence(now=9999.0) is None


def test_a_supervisord_that_was_stopped_is_not_silent() -> None:
    """SIGCONT brings it back; until then its programs serve."""
    watch = ProgramWatch(now=0.0)
    for now in range(0, 300, 3):
        assert watch.silence(now=float(now), is_frozen=True) is None

    assert watch.silence(now=302.0) is None
