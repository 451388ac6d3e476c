"""The logger's turns, with a clock of the test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from datastore import layout, shortage
from datastore.accesslog import Event, write_event
from datastore.index import Kind
from datastore.memory import MemoryStorage
from datastore.refs import Digest
from logger.display import Display
from logger.filetimes import FileTimes
from logger.ledger import Ledger
from logger.loop import Loop, Places, Work
from tests.logger.haproxy import Admin
from tests.logger.index import FailingIndex
from tests.logger.lines import BLOB, answer, probe, written

A = Digest.parse(BLOB.digest)
BUDGET = Event("budget", 0, {"upstream": "docker.io", "remaining": 7})


class House:
    """A loop with everything around it, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.index = FailingIndex()
        self.index.record(A, 10, Kind.BLOB, 0.0)
        self.storage = MemoryStorage(lambda: BLOB.end)
        self.storage.write(layout.blob(A), b"x" * 10)
        self.places = Places(
            folder / "access.log", folder / "events.log", folder / "admin", events_bytes=200
        )
        self.start()

    def start(self) -> None:
        """Start a loop, as after a death."""
        display = Display(self.folder / "prom", self.index, cap=99, build={"version": "1"})
        times = FileTimes(self.storage, self.index)
        self.loop = Loop(
            Work(self.places, times, display, lambda: Ledger(self.index), lambda: BLOB.end + 7)
        )

    def log(self, *lines: bytes) -> None:
        """Append lines to the access log."""
        with self.places.access.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)

    def turn(self, seconds: float = 0) -> float:
        """Let so much time pass, and take turns until there is something to wait for."""
        self.now += seconds
        while (wait := self.loop.turn(self.now)) == 0:
            pass
        return wait

    def settle(self) -> None:
        """Take turns for two seconds."""
        for _ in range(20):
            self.turn(0.1)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return what the written file says."""
        text = (self.folder / "prom").read_text()
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def used(self) -> float:
        """Return the last use of the one row."""
        entry = self.index.entry(A)
        assert entry is not None
        return entry.used


@pytest.fixture
def house() -> Iterator[House]:
    """Return a house in a folder whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory() as folder:
        yield House(Path(folder))


def test_a_line_becomes_a_stamp_and_a_number(house: House) -> None:
    """Within a turn the index has it, within a second the metrics."""
    house.log()
    house.settle()
    house.log(written(BLOB))
    house.turn(0.1)
    used = house.used()
    house.settle()

    assert used == BLOB.end
    assert house.metric("registry_http_requests_total", handler="blob") == 1
    assert house.metric("entrepot_log_lines_total", log="access") == 1


def test_sizes_are_shown_though_nothing_happens(house: House) -> None:
    """A fresh appliance has metrics, and they are those of now."""
    house.turn()

    assert house.metric("entrepot_blobs") == 1
    assert house.metric("entrepot_held_bytes") == house.index.held()
    assert house.metric("entrepot_cap_bytes") == 99
    assert house.metric("entrepot_unevictable_bytes") == 0
    shortage.note(house.index, 5000)
    house.turn(60)
    assert house.metric("entrepot_unevictable_bytes") == 5000
    assert house.metric("entrepot_build_info", version="1") == 1
    assert house.metric("entrepot_log_lag_seconds") == 0


def test_commits_are_few_under_load(house: House) -> None:
    """Ten a second at most, however often a line comes."""
    house.settle()
    before = house.index.commits
    for _ in range(100):
        house.log(written(BLOB))
        house.turn(0.01)
    house.turn(0.1)

    assert 10 <= house.index.commits - before <= 11


def test_commits_are_fewer_while_lines_wait(house: House) -> None:
    """A row is stamped once for all of them; when none waits any more, the rest is committed."""
    house.settle()
    before = house.index.commits
    line = written(answer(uri="/" + "x" * 1000))
    house.log(*[line] * 10_000)
    waits = [house.loop.turn(house.now + 0.2 * look) for look in range(20)]
    during = house.index.commits - before
    house.now += 4
    house.settle()

    assert waits[:8] == [0] * 8
    assert during <= 4
    assert house.metric("entrepot_log_lines_total", log="access") == 10_000


def test_news_is_committed_at_once_though_lines_wait(house: House) -> None:
    """What is before it in the log is what it stands for."""
    line = written(answer(uri="/" + "x" * 1000))
    house.log()
    with Admin(house.places.admin):
        house.settle()
        house.log(line, written(probe("n1")), *[line] * 10_000)
        house.loop.turn(house.now + 0.001)

    assert house.index.note("news") == "n1"
    assert house.used() == BLOB.end


def test_stamps_of_many_rows_are_committed_before_more_is_read(house: House) -> None:
    """While they are written nobody else writes, so they are never too many at once."""
    house.settle()
    house.index.is_out = True
    digests = [str(Digest.of(b"%d" % number)) for number in range(30_000)]
    house.log(*(written(answer(digest=digest)) for digest in digests))
    house.turn(1)
    kept = house.loop._ledger
    assert kept is not None

    assert 10_000 <= len(kept._uses) <= 13_000


def test_news_is_committed_at_once(house: House) -> None:
    """The cleaner waits for it."""
    with Admin(house.places.admin) as admin:
        house.settle()
        house.log(written(BLOB))
        house.turn(1)
        admin.dropped = 4
        house.log(written(probe("n1")))
        house.turn(0.001)

    assert house.index.note("news") == "n1"
    assert house.index.note("dropped") == "4"


def test_news_waits_for_haproxy(house: House) -> None:
    """Without its word on dropped lines the cleaner is told nothing; the stamps go in meanwhile."""
    house.settle()
    house.log(written(BLOB), written(probe("n1")))
    house.settle()
    before, used = house.index.note("news"), house.used()
    with Admin(house.places.admin):
        house.settle()

    assert before is None
    assert used == BLOB.end
    assert house.index.note("news") == "n1"


def test_haproxy_is_asked_again_before_the_cleaner_gives_up(house: House) -> None:
    """It was busy for a moment: no second is slept meanwhile, though no line comes."""
    house.settle()
    house.log(written(probe("n1")))
    waits = [house.turn(0.3) for _ in range(10)]

    assert max(waits) == pytest.approx(0.25)


def test_an_index_that_is_out_costs_nothing_but_time(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; what is read meanwhile is kept, and the log keeps the rest."""
    house.settle()
    house.index.is_out = True
    for number in range(30):
        house.log(written(answer(start=BLOB.start + number)))
        house.turn(1)
    house.index.is_out = False
    house.turn(10)
    house.settle()

    assert house.metric("entrepot_log_lines_total", log="access") == 30
    assert house.used() == BLOB.end + 0.029
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "access index unavailable"
    ]


def test_an_index_that_is_out_at_the_start_is_waited_for(house: House) -> None:
    """Its notes say where reading goes on; without them nothing is read."""
    house.log(written(BLOB))
    house.index.is_out = True
    waits = [house.turn(10) for _ in range(8)]
    house.index.is_out = False
    house.turn(10)
    house.settle()

    assert all(0 < wait <= 5 for wait in waits)
    assert house.metric("entrepot_log_lines_total", log="access") == 1


def test_reading_stops_at_a_bound_while_the_index_is_out(house: House) -> None:
    """Memory is not a log; the log is."""
    house.settle()
    house.index.is_out = True
    line = written(answer(uri="/" + "x" * 100))
    for _ in range(80):
        house.log(*[line] * 1000)
        house.turn(0)
    kept = house.loop._ledger
    assert kept is not None
    lines = kept._lines
    house.index.is_out = False
    house.turn(10)
    for _ in range(100):
        house.turn(0.1)

    assert 50_000 <= lines <= 53_000
    assert house.metric("entrepot_log_lines_total", log="access") == 80_000


def test_a_loop_that_dies_is_followed_by_one_that_counts_no_line_twice(house: House) -> None:
    """What was committed is committed with its position."""
    house.log(written(BLOB))
    house.turn()
    house.log(written(BLOB))
    house.turn(0.01)
    house.start()
    house.settle()

    assert house.metric("entrepot_log_lines_total", log="access") == 2


def test_the_end_commits_what_was_read(house: House) -> None:
    """And leaves the file's time where the index has the use."""
    house.log()
    house.settle()
    house.log(written(BLOB))
    house.turn(0.1)
    house.log(written(answer(start=BLOB.start + 5000)))
    house.turn(0.01)
    before = house.used()
    house.loop.finish(house.now)

    assert before == BLOB.end
    assert house.used() == BLOB.end + 5
    stat = house.storage.stat(layout.blob(A))
    assert stat is not None
    assert stat.modified == BLOB.end + 5
    assert house.metric("entrepot_log_lines_total", log="access") == 2


def test_the_events_file_is_rotated_once_it_is_read(house: House) -> None:
    """It stays small; a worker that had the old one open loses nothing."""
    for _ in range(3):
        write_event(house.places.events, BUDGET)
    house.settle()
    old = house.places.events.with_name("events.log.1")
    was_rotated = old.exists()
    write_event(old, BUDGET)
    write_event(house.places.events, BUDGET)
    house.settle()
    house.settle()

    assert was_rotated
    assert house.metric("entrepot_log_lines_total", log="events") == 5
    assert house.metric("entrepot_upstream_rate_remaining", upstream="docker.io") == 7
    assert house.metric("entrepot_log_gaps_total") is None


def test_events_that_are_not_committed_are_not_rotated_away(house: House) -> None:
    """A rotation is for what the index has."""
    house.settle()
    house.index.is_out = True
    for _ in range(3):
        write_event(house.places.events, BUDGET)
    house.settle()

    assert not house.places.events.with_name("events.log.1").exists()


def test_lag_is_the_age_of_what_waits(house: House) -> None:
    """Nothing waits: none, however long nobody has pulled."""
    house.settle()
    house.log(written(BLOB))
    house.settle()
    idle = house.metric("entrepot_log_lag_seconds")
    house.index.is_out = True
    house.log(written(BLOB))
    house.settle()
    house.turn(5)

    assert idle == 0
    assert house.metric("entrepot_log_lag_seconds") == 7


def test_the_turns_of_an_idle_logger_are_few(house: House) -> None:
    """It waits for a change or a second."""
    house.settle()

    assert house.turn(1) == pytest.approx(1.0)


def test_a_log_that_cannot_be_read_is_one_warning(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """And is tried again."""
    house.places.access.mkdir()
    house.settle()
    house.places.access.rmdir()
    house.log(written(BLOB))
    house.settle()

    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "log not readable"
    ]
    assert house.metric("entrepot_log_lines_total", log="access") == 1


def test_a_replaced_index_is_told_everything(house: House) -> None:
    """Somebody deleted it while we run: the counters and positions are written anew."""
    house.log(written(BLOB))
    house.settle()
    house.index._notes.clear()
    house.turn(10)
    house.settle()
    house.start()
    house.settle()

    assert house.metric("registry_http_requests_total", handler="blob") == 1
    assert house.metric("entrepot_log_lines_total", log="access") == 1
