"""Tests of the logger's loop with a clock that the test moves forward."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event, write_event
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import record_unevictable
from entrepot.logger.batch import LogBatch
from entrepot.logger.display import Display
from entrepot.logger.filetimes import FileTimes
from entrepot.logger.loop import WATCHED_POLL_S, LoggerLoop, LogPaths, Work
from tests.logger.haproxy import Admin
from tests.logger.index import FailingIndex
from tests.logger.lines import BLOB, answer, probe, written
from tests.timed_storage import TimedMemoryStorage

A = Digest.parse(BLOB.digest)
BUDGET = Event("budget", 0, {"upstream": "docker.io", "remaining": 7})


class LoopHarness:
    """The loop of the logger, with its index, storage, logs and clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.index = FailingIndex()
        self.index.record(A, 10, ContentKind.BLOB, 0.0)
        self.storage = TimedMemoryStorage(lambda: BLOB.end)
        self.storage.write(layout.blob(A), b"x" * 10)
        self.places = LogPaths(
            folder / "access.log", folder / "events.log", folder / "admin", events_bytes=200
        )
        self.start()

    def start(self) -> None:
        """Start a new loop, as if the logger had been killed and restarted."""
        display = Display(self.folder / "prom", self.index, cap=99, build={"version": "1"})
        times = FileTimes(self.storage, self.index)
        self.loop = LoggerLoop(
            Work(self.places, times, display, lambda: LogBatch(self.index), lambda: BLOB.end + 7)
        )

    def log(self, *lines: bytes) -> None:
        """Append lines to the access log."""
        with self.places.access.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)

    def turn(self, seconds: float = 0) -> float:
        """Move the clock forward by *seconds*, and run the loop until it has to wait."""
        self.now += seconds
        while (wait := self.loop.turn(self.now)) == 0:
            pass
        return wait

    def settle(self) -> None:
        """Run the loop for two seconds of its clock, in steps of 0.1 s."""
        for _ in range(20):
            self.turn(0.1)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric in the metrics file, or None if it is absent."""
        text = (self.folder / "prom").read_text()
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def used(self) -> float:
        """Return the last use of the only row in the index."""
        entry = self.index.entry(A)
        assert entry is not None
        return entry.used


@pytest.fixture
def harness() -> Iterator[LoopHarness]:
    """Yield the loop, in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield LoopHarness(Path(folder))


def test_a_line_updates_an_access_time_and_a_metric(harness: LoopHarness) -> None:
    """A log line updates its blob's last use in one turn of the loop.

    The loop updates the metrics within a second.
    """
    harness.log()
    harness.settle()
    harness.log(written(BLOB))
    harness.turn(0.1)
    used = harness.used()
    harness.settle()

    assert used == BLOB.end
    assert harness.metric("registry_http_requests_total", handler="blob") == 1
    assert harness.metric("entrepot_log_lines_total", log="access") == 1


def test_an_idle_loop_waits_longer_if_a_change_ends_the_wait(harness: LoopHarness) -> None:
    """Without new lines, the loop waits for 1 s, or 8 s if a watch on the log file can wake it."""
    harness.settle()

    assert harness.loop.turn(harness.now) <= 1.0
    assert harness.loop.turn(harness.now, poll_s=WATCHED_POLL_S) == pytest.approx(WATCHED_POLL_S)


def test_sizes_are_written_without_requests(harness: LoopHarness) -> None:
    """The metrics file contains the size of stored content even before any request."""
    harness.turn()

    assert harness.metric("entrepot_blobs") == 1
    assert harness.metric("entrepot_held_bytes") == harness.index.reservations.used_bytes()
    assert harness.metric("entrepot_cap_bytes") == 99
    assert harness.metric("entrepot_unevictable_bytes") == 0
    record_unevictable(harness.index.notes, 5000)
    harness.turn(60)
    assert harness.metric("entrepot_unevictable_bytes") == 5000
    assert harness.metric("entrepot_build_info", version="1") == 1
    assert harness.metric("entrepot_log_lag_seconds") == 0


def test_there_are_at_most_ten_commits_per_second(harness: LoopHarness) -> None:
    """The loop commits at most ten times a second, however many lines arrive."""
    harness.settle()
    before = harness.index.commits
    for _ in range(100):
        harness.log(written(BLOB))
        harness.turn(0.01)
    harness.turn(0.1)

    assert 10 <= harness.index.commits - before <= 11


def test_commits_are_rarer_while_lines_are_unread(harness: LoopHarness) -> None:
    """While many lines are unread, the loop commits less often, to update each row only once.

    It commits the last lines as soon as it has read them.
    """
    harness.settle()
    before = harness.index.commits
    line = written(answer(uri="/" + "x" * 1000))
    harness.log(*[line] * 10_000)
    waits = [harness.loop.turn(harness.now + 0.2 * look) for look in range(20)]
    during = harness.index.commits - before
    harness.now += 4
    harness.settle()

    assert waits[:8] == [0] * 8
    assert during <= 4
    assert harness.metric("entrepot_log_lines_total", log="access") == 10_000


def test_a_log_barrier_is_committed_at_once_although_lines_are_unread(harness: LoopHarness) -> None:
    """The loop commits a log barrier before it reads the lines that follow the barrier."""
    line = written(answer(uri="/" + "x" * 1000))
    harness.log()
    with Admin(harness.places.admin):
        harness.settle()
        harness.log(line, written(probe("n1")), *[line] * 10_000)
        harness.loop.turn(harness.now + 0.001)

    assert harness.index.notes.get("news") == "n1"
    assert harness.used() == BLOB.end


@pytest.mark.slow
def test_access_times_of_many_rows_are_committed_before_more_lines_are_read(
    harness: LoopHarness,
) -> None:
    """If the lines touch many rows, the loop commits before it reads more lines.

    A commit blocks other writers of the index, so its size is bounded.
    """
    harness.settle()
    harness.index.is_out = True
    digests = [str(Digest.of(b"%d" % number)) for number in range(30_000)]
    harness.log(*(written(answer(digest=digest)) for digest in digests))
    harness.turn(1)
    kept = harness.loop._ledger
    assert kept is not None

    assert 10_000 <= len(kept._uses) <= 13_000


def test_a_log_barrier_is_committed_at_once(harness: LoopHarness) -> None:
    """The loop commits a log barrier at once, because the cleaner waits for it."""
    with Admin(harness.places.admin) as admin:
        harness.settle()
        harness.log(written(BLOB))
        harness.turn(1)
        admin.dropped = 4
        harness.log(written(probe("n1")))
        harness.turn(0.001)

    assert harness.index.notes.get("news") == "n1"
    assert harness.index.notes.get("dropped") == "4"


def test_a_log_barrier_waits_for_haproxy_s_count_of_dropped_lines(harness: LoopHarness) -> None:
    """The loop commits a log barrier only when it knows how many lines HAProxy dropped.

    It commits the uses in the lines before the barrier without waiting for that number.
    """
    harness.settle()
    harness.log(written(BLOB), written(probe("n1")))
    harness.settle()
    before, used = harness.index.notes.get("news"), harness.used()
    with Admin(harness.places.admin):
        harness.settle()

    assert before is None
    assert used == BLOB.end
    assert harness.index.notes.get("news") == "n1"


def test_a_failed_read_of_haproxy_s_count_is_repeated_after_250_ms(harness: LoopHarness) -> None:
    """If HAProxy does not report its number of dropped lines, the loop asks again after 250 ms.

    The cleaner waits only a short time, and HAProxy can be busy for a moment.
    """
    harness.settle()
    harness.log(written(probe("n1")))
    waits = [harness.turn(0.3) for _ in range(10)]

    assert max(waits) == pytest.approx(0.25)


def test_an_unavailable_index_loses_no_lines(
    harness: LoopHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """While the index is unavailable, no line is lost, and one warning is logged.

    Lines that the loop has already read stay in memory, and all others stay in the log.
    """
    harness.settle()
    harness.index.is_out = True
    for number in range(30):
        harness.log(written(answer(start=BLOB.start + number)))
        harness.turn(1)
    harness.index.is_out = False
    harness.turn(10)
    harness.settle()

    assert harness.metric("entrepot_log_lines_total", log="access") == 30
    assert harness.used() == BLOB.end + 0.029
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "access index unavailable"
    ]


def test_the_loop_waits_for_an_index_that_is_unavailable_at_the_start(harness: LoopHarness) -> None:
    """If the index is unavailable at the start, the loop waits for the index and reads no line.

    Only the index has the position in the log at which the loop must continue.
    """
    harness.log(written(BLOB))
    harness.index.is_out = True
    waits = [harness.turn(10) for _ in range(8)]
    harness.index.is_out = False
    harness.turn(10)
    harness.settle()

    assert all(0 < wait <= 5 for wait in waits)
    assert harness.metric("entrepot_log_lines_total", log="access") == 1


def test_the_number_of_lines_in_memory_is_bounded_while_the_index_is_unavailable(
    harness: LoopHarness,
) -> None:
    """While the index is unavailable, the loop reads a bounded number of lines.

    The remaining lines stay in the log.
    """
    harness.settle()
    harness.index.is_out = True
    line = written(answer(uri="/" + "x" * 100))
    for _ in range(80):
        harness.log(*[line] * 1000)
        harness.turn(0)
    kept = harness.loop._ledger
    assert kept is not None
    lines = kept._lines
    harness.index.is_out = False
    harness.turn(10)
    for _ in range(100):
        harness.turn(0.1)

    assert 50_000 <= lines <= 53_000
    assert harness.metric("entrepot_log_lines_total", log="access") == 80_000


def test_a_restarted_loop_counts_no_line_twice(harness: LoopHarness) -> None:
    """After a restart, no line counts twice.

    The counters and the position in the log are committed together.
    """
    harness.log(written(BLOB))
    harness.turn()
    harness.log(written(BLOB))
    harness.turn(0.01)
    harness.start()
    harness.settle()

    assert harness.metric("entrepot_log_lines_total", log="access") == 2


def test_the_end_of_the_loop_commits_all_lines(harness: LoopHarness) -> None:
    """Before the loop ends, it commits all lines and sets the file times to the last uses."""
    harness.log()
    harness.settle()
    harness.log(written(BLOB))
    harness.turn(0.1)
    harness.log(written(answer(start=BLOB.start + 5000)))
    harness.turn(0.01)
    before = harness.used()
    harness.loop.finish(harness.now)

    assert before == BLOB.end
    assert harness.used() == BLOB.end + 5
    stat = harness.storage.stat(layout.blob(A))
    assert stat is not None
    assert stat.modified == BLOB.end + 5
    assert harness.metric("entrepot_log_lines_total", log="access") == 2


def test_the_events_file_is_rotated_once_it_is_read(harness: LoopHarness) -> None:
    """After the loop has read the events file, it rotates the file, so that the file stays small.

    The loop also reads lines that a worker writes to the old file after the rotation.
    """
    for _ in range(3):
        write_event(harness.places.events, BUDGET)
    harness.settle()
    old = harness.places.events.with_name("events.log.1")
    was_rotated = old.exists()
    write_event(old, BUDGET)
    write_event(harness.places.events, BUDGET)
    harness.settle()
    harness.settle()

    assert was_rotated
    assert harness.metric("entrepot_log_lines_total", log="events") == 5
    assert harness.metric("entrepot_upstream_rate_remaining", upstream="docker.io") == 7
    assert harness.metric("entrepot_log_gaps_total") is None


def test_events_that_are_not_committed_prevent_a_rotation(harness: LoopHarness) -> None:
    """The loop does not rotate the events file while events are uncommitted."""
    harness.settle()
    harness.index.is_out = True
    for _ in range(3):
        write_event(harness.places.events, BUDGET)
    harness.settle()

    assert not harness.places.events.with_name("events.log.1").exists()


def test_lag_is_the_age_of_the_last_line_while_lines_wait(harness: LoopHarness) -> None:
    """The metric of the lag is the age of the last read line, or 0 if all lines are committed."""
    harness.settle()
    harness.log(written(BLOB))
    harness.settle()
    idle = harness.metric("entrepot_log_lag_seconds")
    harness.index.is_out = True
    harness.log(written(BLOB))
    harness.settle()
    harness.turn(8)

    assert idle == 0
    assert harness.metric("entrepot_log_lag_seconds") == 7


def test_an_idle_loop_waits_one_second(harness: LoopHarness) -> None:
    """Without new lines, the loop waits for one second."""
    harness.settle()

    assert harness.turn(1) == pytest.approx(1.0)


def test_an_unreadable_log_is_one_warning(
    harness: LoopHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """If the log cannot be read, the loop logs one warning and tries again later."""
    harness.places.access.mkdir()
    harness.settle()
    harness.places.access.rmdir()
    harness.log(written(BLOB))
    harness.settle()

    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "log not readable"
    ]
    assert harness.metric("entrepot_log_lines_total", log="access") == 1


def test_a_replaced_index_gets_all_counters_and_positions(harness: LoopHarness) -> None:
    """If the index was replaced, the loop writes all counters and positions into the new index."""
    harness.log(written(BLOB))
    harness.settle()
    harness.index.stored.clear()
    harness.turn(10)
    harness.settle()
    harness.start()
    harness.settle()

    assert harness.metric("registry_http_requests_total", handler="blob") == 1
    assert harness.metric("entrepot_log_lines_total", log="access") == 1
