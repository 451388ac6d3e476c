"""Tests when a program counts as failed for good, and which reason is reported."""

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
)
from entrepot.runtime import run_names


def running(pid: int, state: str = "RUNNING", why: str = "") -> Program:
    """Return supervisord's report about the program `logger`."""
    return Program("logger", state, pid, started=0.0, why=why)


def test_another_process_id_is_a_restart() -> None:
    """A program with a new process id counts as restarted when it runs again."""
    watch = ProgramWatch(0.0)

    assert [watch.restarted([running(pid)], now=0.0) for pid in (7, 7, 0, 8, 8)] == [
        [],
        [],
        [],
        ["logger"],
        [],
    ]


def test_five_ends_within_a_minute_are_a_failure() -> None:
    """A program that exits five times within a minute is reported as a failure."""
    watch = ProgramWatch(0.0)
    for number in range(6):
        watch.restarted([running(100 + number)], now=10.0 * number)

    assert watch.failure([running(105)], now=50.0) == ProgramFailure(
        "logger", "the program ended 5 times within 60 s"
    )


def test_five_ends_in_an_hour_are_no_failure() -> None:
    """A program that exits five times in an hour, and runs for minutes each time, is no failure."""
    watch = ProgramWatch(0.0)
    for number in range(6):
        watch.restarted([running(100 + number)], now=700.0 * number)

    assert watch.failure([running(105)], now=3500.0) is None


def test_a_program_that_supervisord_gave_up_is_a_failure() -> None:
    """A program that supervisord no longer starts is a failure with supervisord's reason."""
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
def test_the_reason_of_an_end_is_read_from_supervisords_log(
    name: str, lines: list[str], how: str
) -> None:
    """The reason for an exit is read from supervisord's last log line about the program."""
    assert how_it_ended(name, lines) == how


def test_without_supervisord_a_request_raises(tmp_path: Path) -> None:
    """A request to supervisord raises if supervisord has not started yet, or has exited."""
    with pytest.raises(SupervisorUnreachable):
        read_all(tmp_path)


@pytest.mark.slow
def test_a_response_that_never_comes_raises(tmp_path: Path) -> None:
    """A request to a supervisord stopped by SIGSTOP raises after a time-out."""
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / run_names.SUPERVISOR_SOCKET))
        stopped.listen()

        with pytest.raises(SupervisorUnreachable):
            read_all(tmp_path)


def test_supervisord_may_be_unreachable_for_a_limited_time() -> None:
    """Supervisord may be unreachable for less than 30 s, because it may be starting or busy.

    Without supervisord no program would be restarted, so `serve` exits after that time.
    """
    watch = ProgramWatch(now=0.0)
    assert [watch.silence(now=float(now)) for now in range(3, 30, 3)] == [None] * 9
    watch.restarted([running(7)], now=29.0)
    assert [watch.silence(now=float(now)) for now in range(32, 59, 3)] == [None] * 9

    assert watch.silence(now=59.0) == ProgramFailure(
        "supervisord", "supervisord has not answered for 30 s"
    )


def test_one_failed_request_after_a_pause_is_no_failure() -> None:
    """If `serve` was suspended, one failed request to supervisord does not make `serve` exit.

    The time of the suspension does not count as time without a response: on a suspended machine,
    after SIGSTOP or in a frozen container `serve` could not send a request.
    """
    watch = ProgramWatch(now=0.0)
    watch.restarted([running(7)], now=1.0)

    assert watch.silence(now=3600.0) is None
    assert watch.silence(now=7200.0) is None
    assert watch.restarted([running(7)], now=7201.0) == []
    assert watch.silence(now=9999.0) is None


def test_a_stopped_supervisord_is_not_a_failure() -> None:
    """A supervisord stopped by SIGSTOP is no failure: its programs serve until SIGCONT."""
    watch = ProgramWatch(now=0.0)
    for now in range(0, 300, 3):
        assert watch.silence(now=float(now), is_frozen=True) is None

    assert watch.silence(now=302.0) is None
