"""Tests of the limit on messages that a process logs too often."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from entrepot.runtime import logs
from entrepot.runtime.log_limit import FEW, MANY, PERIOD_S, LogLimit


class Flooded:
    """An in-memory log with a limit on repeated messages; the test sets its clock."""

    def __init__(self) -> None:
        self.now = 1.0
        self.dropped = 0
        self.stream = io.StringIO()
        limit = LogLimit(self._count, lambda: self.now)
        logs.configure("debug", "text", "p", stream=self.stream, limit=limit)

    def _count(self) -> None:
        self.dropped += 1

    def lines(self) -> list[str]:
        """Return the lines of the log without time stamps."""
        return [line.split(" ", 1)[1] for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def flooded() -> Iterator[Flooded]:
    """Yield a log with the limit; restore the configuration of `logging` after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield Flooded()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize(
    ("level", "most"), [(logging.ERROR, FEW), (logging.WARNING, FEW), (logging.INFO, MANY)]
)
def test_a_flood_is_limited_and_the_next_line_has_the_number_dropped(
    flooded: Flooded, level: int, most: int
) -> None:
    """If a message is logged too often, the following lines with this message are dropped.

    The next line with this message that is written states the number of dropped lines.
    """
    log = logging.getLogger("x.y")
    for number in range(most + 500):
        log.log(level, "request failed", extra={"path": f"/{number}"})
    flooded.now += PERIOD_S
    log.log(level, "request failed")
    log.log(level, "request failed")

    lines = flooded.lines()
    assert len(lines) == most + 2
    assert flooded.dropped == 500
    assert lines[-2].endswith("request failed more=500")
    assert lines[-1].endswith("request failed")


def test_other_messages_are_written_during_a_flood(flooded: Flooded) -> None:
    """While one message is limited, other messages are still written.

    The same text at another level is treated as another message.
    """
    log = logging.getLogger("x.y")
    for _ in range(FEW + 1):
        log.warning("login failed")
    log.warning("upstream unavailable")
    log.error("login failed")

    assert flooded.lines()[-2:] == ["warn p: upstream unavailable", "error p: login failed"]


def test_ever_new_messages_share_one_limit(flooded: Flooded) -> None:
    """If more than 256 different messages are logged, all further messages share one limit.

    So messages whose texts vary each time fill neither the log nor the memory.
    """
    log = logging.getLogger("x.y")
    for number in range(5000):
        log.warning(f"text {number}")  # noqa: G004 - a library may do so

    assert len(flooded.lines()) < 1000
    assert len(flooded.lines()) + flooded.dropped == 5000


def test_debug_lines_are_not_limited(flooded: Flooded) -> None:
    """Debug lines are never dropped, because an operator sets this level to see every line."""
    for _ in range(MANY + 10):
        logging.getLogger("x.y").debug("request")

    assert len(flooded.lines()) == MANY + 10
