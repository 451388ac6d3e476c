"""A flood of lines that show no use leaves room in the access log for those that do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.appliance.supervise import log_pipe
from entrepot.appliance.supervise.line_limit import LineLimit
from entrepot.appliance.supervise.log_mover import LogMover
from entrepot.appliance.supervise.log_rotation import RotatedLog
from entrepot.datastore.accesslog import AccessLine
from tests.appliance.front import eventually
from tests.logger.lines import BLOB, answer, probe, written

REFUSED = answer(status=401, digest="", repository="", kind="", cache="", source="192.0.2.7")
MUCH = 1024 * 1024


class Clock:
    """A time, in s, that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


def limit(by_address: int = 10, in_all: int = MUCH) -> tuple[LineLimit, list[int], Clock]:
    """Return a limit, what it says that it has left out, and its clock."""
    told, clock = list[int](), Clock()
    return LineLimit(by_address, in_all, told.append, clock), told, clock


def picked(bound: LineLimit, *lines: AccessLine, times: int = 1) -> list[bytes]:
    """Return what is picked of *lines*, each so many times."""
    text = b"".join(written(each) + b"\n" for each in lines * times)
    return bytes(bound.filter(memoryview(text))).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        REFUSED,
        answer(status=404, digest="", kind="blob", source="192.0.2.7"),
        answer(method="HEAD", source="192.0.2.7"),
        answer(status=416, source="192.0.2.7"),
        answer(status=400, method="", digest="", repository="", kind="", uri="", user=""),
        answer(status=400, digest="", kind="", user='"digest":"sha256:00"', uri='","digest":"a"'),
        answer(status=200, digest="", kind="", uri="/v2/"),
    ],
    ids=["401", "404", "HEAD of a blob", "416", "no HTTP", "names with quotes", "no content"],
)
def test_lines_that_show_no_use_are_bounded_by_address(line: AccessLine) -> None:
    """Whatever the answer was."""
    bound, _, _ = limit()

    assert len(picked(bound, line, times=500)) == 10


@pytest.mark.parametrize(
    "line",
    [
        BLOB,
        answer(status=206),
        answer(status=304, kind="manifest"),
        answer(method="HEAD", kind="index"),
        answer(method="PUT", status=201, kind="upload"),
        probe("1"),
    ],
    ids=["blob", "range", "304", "HEAD of an index", "push", "the cleaner's request"],
)
def test_lines_of_uses_always_pass(line: AccessLine) -> None:
    """Their loss would put eviction off."""
    bound, told, clock = limit(by_address=1, in_all=1)

    assert len(picked(bound, line, REFUSED, times=500)) == 500
    clock.now = 1
    picked(bound, line)
    assert told == [500]


def test_each_address_has_lines_of_its_own() -> None:
    """One that floods the log hides the refusals of no other."""
    bound, _, _ = limit()
    other = answer(status=404, digest="", kind="blob", source="192.0.2.8")
    picked(bound, REFUSED, times=500)

    assert picked(bound, REFUSED, other) == [written(other)]


def test_all_addresses_together_are_bounded_in_bytes() -> None:
    """An attacker may have many."""
    bound, _, _ = limit(in_all=10_000)
    flood = [answer(status=404, digest="", source=f"2001:db8::{number}") for number in range(500)]

    assert 9_000 < sum(map(len, picked(bound, *flood))) <= 10_000


def test_the_next_second_has_room_again() -> None:
    """And what the last one left out is reported once."""
    bound, told, clock = limit()
    picked(bound, REFUSED, times=500)
    assert (bound.report(), told) == (False, [])
    clock.now = 1

    assert (bound.report(), told) == (True, [490])
    assert len(picked(bound, REFUSED, times=500)) == 10
    clock.now = 2
    assert (bound.report(), told) == (True, [490, 490])


def test_few_lines_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a flood it costs nothing."""
    bound, _, _ = limit(by_address=1000)
    monkeypatch.setattr(LineLimit, "_chosen", _fail)

    assert len(picked(bound, REFUSED, times=500)) == 500


def _fail(*_: object) -> Callable[[], None]:
    raise AssertionError


def test_the_mover_leaves_them_out_and_reports_them_when_nothing_follows(tmp_path: Path) -> None:
    """The lines of uses lie in the file, in their order."""
    told = list[int]()
    bound = LineLimit(10, MUCH, told.append)
    pipe = log_pipe.create(tmp_path)
    writer = os.open(os.devnull, os.O_WRONLY)
    log_pipe.redirect(tmp_path, writer)
    os.set_blocking(writer, True)
    uses = [written(answer(start=1_000_000_000_000 + each)) for each in range(200)]
    for use in uses:
        os.write(writer, use + b"\n" + (written(REFUSED) + b"\n") * 5)

    mover = LogMover(pipe, RotatedLog(tmp_path / "log", file_bytes=MUCH, backups=1), bound)
    eventually(lambda: sum(told) > 0)
    mover.close()
    os.close(writer)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [each for each in lines if each in set(uses)] == uses
    assert 0 < len(lines) - len(uses) < 1000
    assert sum(told) == 1000 - (len(lines) - len(uses))
