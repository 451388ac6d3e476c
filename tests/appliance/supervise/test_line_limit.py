"""Test `LineLimit`, which drops access log lines in a flood, except lines that show a use."""

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
from tests.appliance.haproxy import eventually
from tests.logger.lines import BLOB, answer, probe, written

REFUSED = answer(status=401, digest="", repository="", kind="", cache="", source="192.0.2.7")
MUCH = 1024 * 1024


class Clock:
    """A clock that returns the time that the test has set, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time that the test has set, in seconds."""
        return self.now


def limit(by_address: int = 10, in_all: int = MUCH) -> tuple[LineLimit, list[int], Clock]:
    """Return a limit of log lines, the list of numbers that it reports, and its clock."""
    reported, clock = list[int](), Clock()
    return LineLimit(by_address, in_all, reported.append, clock), reported, clock


def marked(line: AccessLine) -> bytes:
    """Return *line* with the mark that HAProxy adds to lines that may show no use of content."""
    return written(line).replace(b'"digest"', b'\t"digest"', 1) + b"\n"


def passed(bound: LineLimit, *lines: AccessLine, times: int = 1) -> list[bytes]:
    """Filter *lines*, repeated *times* times, by the limit, and return the remaining lines."""
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
        answer(status=200, kind="", repository='a","kind":"blob'),
        answer(status=200, kind="", repository='a\\","kind":"blob\\'),
    ],
    ids=[
        *("401", "404", "HEAD of a blob", "416", "no HTTP", "names with quotes", "no content"),
        *("repository with quotes", "repository with a backslash"),
    ],
)
def test_lines_without_a_use_are_limited_by_address(line: AccessLine) -> None:
    """For each client address, the lines that show no use of content are limited."""
    bound, _, _ = limit()

    assert len(passed(bound, line, times=500)) == 10


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
    """A log line about a use of content is never dropped by the limit of log lines.

    The cleaner postpones evictions if lines about uses may be missing.
    """
    bound, reported, clock = limit(by_address=1, in_all=1)

    assert len(passed(bound, line, REFUSED, times=500)) == 500
    clock.now = 1
    passed(bound, line)
    assert reported == [500]


def test_each_address_has_its_own_limit() -> None:
    """Each client address has its own limit of log lines that show no use of content.

    A client that floods the log does not suppress the log lines of another client.
    """
    bound, _, _ = limit()
    other = answer(status=404, digest="", kind="blob", source="192.0.2.8")
    passed(bound, REFUSED, times=500)

    assert passed(bound, REFUSED, other) == [written(other)]


def test_the_bytes_of_all_addresses_together_are_limited() -> None:
    """The log lines of all addresses together are limited: an attacker can have many addresses."""
    bound, _, _ = limit(in_all=10_000)
    flood = [answer(status=404, digest="", source=f"2001:db8::{number}") for number in range(500)]

    assert 9_000 < sum(map(len, passed(bound, *flood))) <= 10_000


def test_the_limit_is_reset_every_second() -> None:
    """The limit of log lines is reset every second, and dropped lines are reported once."""
    bound, reported, clock = limit()
    passed(bound, REFUSED, times=500)
    assert (bound.report(), reported) == (False, [])
    clock.now = 1

    assert (bound.report(), reported) == (True, [490])
    assert len(passed(bound, REFUSED, times=500)) == 10
    clock.now = 2
    assert (bound.report(), reported) == (True, [490, 490])


def test_a_few_lines_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While there are few lines, the limit parses none of them."""
    bound, _, _ = limit(by_address=1000)
    monkeypatch.setattr(LineLimit, "_chosen", _fail)

    assert len(passed(bound, REFUSED, times=500)) == 500


def test_usual_lines_of_uses_are_passed_without_parsing_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A regular expression recognises the most frequent lines of uses, so they are not parsed."""
    bound, _, _ = limit(by_address=1)
    monkeypatch.setattr(LineLimit, "_passes", _fail)

    assert len(passed(bound, BLOB, answer(method="HEAD", kind="index"), times=500)) == 1000


def _fail(*_: object) -> Callable[[], None]:
    raise AssertionError


@pytest.mark.slow
def test_the_log_mover_drops_lines_and_reports_them_when_no_line_follows(tmp_path: Path) -> None:
    """After a flood the log has all lines that show a use of content, but not all other lines.

    The number of dropped lines is logged even if no further line follows.
    """
    reported = list[int]()
    bound = LineLimit(10, MUCH, reported.append)
    pipe = log_pipe.create(tmp_path)
    writer = os.open(os.devnull, os.O_WRONLY)
    log_pipe.redirect(tmp_path, writer)
    os.set_blocking(writer, True)
    uses = [written(answer(start=1_000_000_000_000 + each)) for each in range(200)]
    for use in uses:
        os.write(writer, use + b"\n" + marked(REFUSED) * 5)

    mover = LogMover([pipe], RotatedLog(tmp_path / "log", file_bytes=MUCH, backups=1), bound)
    eventually(lambda: sum(reported) > 0)
    mover.close()
    os.close(writer)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [each for each in lines if each in set(uses)] == uses
    assert 0 < len(lines) - len(uses) < 1000
    assert sum(reported) == 1000 - (len(lines) - len(uses))


def test_the_log_mover_removes_the_marks_and_keeps_lines_without_a_mark(tmp_path: Path) -> None:
    """The log has none of HAProxy's marks. A line without a mark is never counted or dropped."""
    bound = LineLimit(0, 0, list[int]().append)
    pipe = log_pipe.create(tmp_path)
    writer = os.open(os.devnull, os.O_WRONLY)
    log_pipe.redirect(tmp_path, writer)
    unmarked, use, log = written(REFUSED) + b"\n", answer(), tmp_path / "log"

    mover = LogMover([pipe], RotatedLog(log, file_bytes=MUCH, backups=1), bound)
    os.write(writer, unmarked * 3)
    eventually(lambda: log.exists() and log.read_bytes() == unmarked * 3)
    os.write(writer, marked(use) + marked(REFUSED))
    mover.close()
    os.close(writer)

    assert log.read_bytes() == unmarked * 3 + written(use) + b"\n"
