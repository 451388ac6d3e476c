"""A flood of one message in a process's own log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from entrepot.runtime import logs
from entrepot.runtime.log_limit import FEW, MANY, PERIOD_S, LogLimit


class Flooded:
    """A log with a limit, whose time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1.0
        self.left_out = 0
        self.stream = io.StringIO()
        limit = LogLimit(self._count, lambda: self.now)
        logs.configure("debug", "text", "p", stream=self.stream, limit=limit)

    def _count(self) -> None:
        self.left_out += 1

    def lines(self) -> list[str]:
        """Return what was written, without the times."""
        return [line.split(" ", 1)[1] for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def flooded() -> Iterator[Flooded]:
    """Logging is afterwards as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield Flooded()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize(
    ("level", "most"), [(logging.ERROR, FEW), (logging.WARNING, FEW), (logging.INFO, MANY)]
)
def test_a_flood_has_so_many_lines_and_a_count(flooded: Flooded, level: int, most: int) -> None:
    """Whatever its fields say, which clients choose; the first of the next minute counts."""
    log = logging.getLogger("x.y")
    for number in range(most + 500):
        log.log(level, "request failed", extra={"path": f"/{number}"})
    flooded.now += PERIOD_S
    log.log(level, "request failed")
    log.log(level, "request failed")

    lines = flooded.lines()
    assert len(lines) == most + 2
    assert flooded.left_out == 500
    assert lines[-2].endswith("request failed more=500")
    assert lines[-1].endswith("request failed")


def test_other_messages_are_written_beside_a_flood(flooded: Flooded) -> None:
    """The same text at another level is another message."""
    log = logging.getLogger("x.y")
    for _ in range(FEW + 1):
        log.warning("login failed")
    log.warning("upstream is away")
    log.error("login failed")

    assert flooded.lines()[-2:] == ["warn p: upstream is away", "error p: login failed"]


def test_texts_without_end_are_one_message(flooded: Flooded) -> None:
    """No text that differs each time fills log or memory."""
    log = logging.getLogger("x.y")
    for number in range(5000):
        log.warning(f"text {number}")  # noqa: G004 - as a library might

    assert len(flooded.lines()) < 1000
    assert len(flooded.lines()) + flooded.left_out == 5000


def test_who_asks_for_debug_lines_gets_them_all(flooded: Flooded) -> None:
    """They are for one who looks."""
    for _ in range(MANY + 10):
        logging.getLogger("x.y").debug("asked")

    assert len(flooded.lines()) == MANY + 10
