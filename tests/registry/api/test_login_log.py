"""Failed logins are logged, but only a limited number of them per minute."""

from __future__ import annotations

import pytest

from entrepot.registry.api.login_log import LoginLog
from tests.clock import Clock


def _logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    return [
        (each.__dict__["user"], each.__dict__["address"], each.__dict__.get("more", 0))
        for each in caplog.records
        if each.message == "login failed"
    ]


def test_a_failed_login_is_logged_with_user_and_address(caplog: pytest.LogCaptureFixture) -> None:
    """A failed login is logged with the user's name and the client's address.

    Repetitions within a minute are only counted. The first line after that minute states the number
    of repetitions.
    """
    clock = Clock(0.0)
    notes = LoginLog(clock)
    for clock.now in (0.0, 1.0, 59.0, 61.0):
        notes.failed("ann", "192.0.2.7")

    assert _logged(caplog) == [("ann", "192.0.2.7", 0), ("ann", "192.0.2.7", 2)]


def test_a_flood_of_user_names_causes_few_lines_and_little_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If clients try thousands of user names, at most 20 lines are logged per minute.

    A longer user name is cut to 64 characters in the log.
    """
    clock = Clock(0.0)
    notes = LoginLog(clock)
    for number in range(5000):
        notes.failed(f"{number}" * 50, f"192.0.2.{number % 250}")
    clock.now = 61.0
    notes.failed("ann", "192.0.2.7")

    logged = _logged(caplog)
    assert len(logged) == 21
    assert logged[-1] == ("ann", "192.0.2.7", 4980)
    assert max(len(user) for user, _, _ in logged) == 64
