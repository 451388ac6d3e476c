"""Tests of `PullCollector`, which queues the notification events of pulls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from entrepot import config
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.logger import notification_metrics
from entrepot.logger.position import LogPosition
from entrepot.logger.pull_events import PullCollector, StoredContents, build
from entrepot.logger.tail import Tail
from entrepot.notifications.endpoint import EventEndpoint, Source
from entrepot.notifications.errors import QueueUnavailable
from entrepot.notifications.events import Notification
from entrepot.notifications.pulls import PullEvents
from entrepot.notifications.queue import EventQueue, Statistics
from entrepot.runtime.clock import Clock
from entrepot.runtime.run_names import SETTINGS
from tests.disk_storage import disk_storage
from tests.notifications.test_pulls import Contents, line

MUCH = 10**6


def number(which: int) -> str:
    """Return the ID of the request with the number *which*."""
    return f"{which:08x}-89ab-4def-8123-456789abcdef"


class Bench:
    """An access log, a queue of events, and the collector that reads the log."""

    def __init__(self, folder: Path, *endpoints: EventEndpoint) -> None:
        self.log = folder / "access.log"
        self.path = folder / "queue.sqlite"
        self.endpoints = endpoints or (EventEndpoint("a", ""),)
        self.queue = EventQueue(self.path, MUCH, is_durable=False)
        self.collector = self.start()
        self.woken = 0

    def start(self) -> PullCollector:
        """Create new objects on the same files, as a new process does after a kill."""
        self.queue.close()
        self.queue = EventQueue(self.path, MUCH, is_durable=False)
        self.collector = PullCollector(
            lambda text: Tail(self.log, LogPosition.load(text)),
            PullEvents(Source("vm", "i"), Contents()),
            self.queue,
            self.endpoints,
            self._wake,
        )
        return self.collector

    def write(self, *numbers: int, **fields: Any) -> None:
        """Append the lines of pulls with these numbers to the log."""
        with self.log.open("ab") as file:
            file.writelines(line(number(each), **fields) + b"\n" for each in numbers)

    def turn(self) -> None:
        """Run the collector until it has read the log to its end."""
        while self.collector.turn(time.monotonic()) == 0:
            pass

    def queued(self, endpoint: str = "a") -> list[int]:
        """Return the numbers of the requests whose events are queued for *endpoint*."""
        events = map(json.loads, self.queue.first(endpoint, 999, MUCH).events)
        return [int(each["request"]["id"][:8], 16) for each in events]

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Yield an access log and a queue with one endpoint."""
    found = Bench(tmp_path)
    yield found
    found.queue.close()


def test_the_pulls_of_the_log_are_queued_in_order(bench: Bench) -> None:
    """The collector queues the pulls from the log in order and wakes the delivery.

    It ignores a request that failed.
    """
    bench.write(1, 2)
    bench.write(9, status=404)
    bench.write(3)
    bench.turn()

    assert bench.queued() == [1, 2, 3]
    assert bench.woken > 0


def test_after_many_lines_the_next_ones_wait(bench: Bench) -> None:
    """After many lines, the collector waits longer, so that more events share a transaction."""
    bench.write(1)
    bench.turn()
    few = bench.collector.turn(time.monotonic())
    bench.write(*range(100))
    many = bench.collector.turn(time.monotonic())

    assert many > few


def test_after_a_kill_no_event_is_lost_or_doubled(bench: Bench) -> None:
    """After a kill, a new process continues after the lines whose events were queued.

    No event is lost or queued twice.
    """
    bench.write(1, 2)
    bench.turn()
    bench.write(3)
    bench.start()
    bench.turn()
    bench.start()
    bench.turn()

    assert bench.queued() == [1, 2, 3]


def test_a_kill_before_the_commit_repeats_the_lines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a process is killed before its commit, the next process reads the same lines again."""
    bench.write(1)
    bench.turn()
    bench.write(2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.queue, "append", die)
        with pytest.raises(KeyboardInterrupt):
            bench.turn()
    bench.start()
    bench.turn()

    assert bench.queued() == [1, 2]


def test_a_rotation_loses_no_event(bench: Bench) -> None:
    """If the log is rotated, no event is lost, even if a new process reads the log."""
    bench.write(1)
    bench.turn()
    bench.write(2)
    bench.log.rename(bench.log.with_name("access.log.1"))
    bench.write(3)
    bench.start()
    bench.turn()
    bench.turn()

    assert bench.queued() == [1, 2, 3]


def test_while_the_queue_is_unavailable_lines_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the queue is unavailable, the collector keeps the lines that it has already read.

    Meanwhile the collector reads no further lines.
    """
    bench.write(1)
    bench.turn()

    def fail(*_: object) -> None:
        raise QueueUnavailable("full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.queue, "append", fail)
        bench.write(2)
        assert bench.collector.turn(time.monotonic()) > 0
        bench.write(3)
        assert bench.collector.turn(time.monotonic()) > 0
    bench.turn()  # The collector queues the events of the lines that it has kept.
    bench.turn()

    assert bench.queued() == [1, 2, 3]


def test_each_endpoint_gets_the_pulls_that_it_wants(tmp_path: Path) -> None:
    """An endpoint that ignores pulls gets no events of pulls.

    An endpoint that ignores a media type gets no events of content of that type.
    """
    bench = Bench(
        tmp_path,
        EventEndpoint("a", ""),
        EventEndpoint("b", "", actions=frozenset({"pull"})),
        EventEndpoint("c", "", ignored=frozenset({"application/octet-stream"})),
    )
    bench.write(1, kind="blob")
    bench.write(2)
    bench.turn()

    assert [bench.queued(each) for each in "abc"] == [[1, 2], [], [2]]
    bench.queue.close()


def test_lines_without_a_pull_move_the_position(bench: Bench) -> None:
    """Lines without a pull also advance the stored position, so a restarted logger skips them."""
    bench.write(1, status=404)
    bench.turn()

    assert bench.queue.position() is not None


def test_an_idle_collector_is_woken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some time without new lines, the collector's thread waits until the logger wakes it."""
    monkeypatch.setattr("entrepot.logger.pull_events._BUSY_S", 0.0)
    monkeypatch.setattr("entrepot.logger.pull_events._IDLE_S", 3600.0)
    bench.collector.start()
    bench.write(1)

    def is_queued() -> bool:
        bench.collector.wake()
        return bench.queued() == [1]

    _eventually(is_queued)
    bench.collector.stop()


def test_a_stop_queues_the_last_lines(bench: Bench) -> None:
    """When the collector is stopped, it first queues the events of all lines written so far."""
    bench.collector.start()
    bench.write(1)
    bench.collector.stop()

    _eventually(lambda: bench.queued() == [1])


def test_the_store_knows_sizes_and_references(tmp_path: Path) -> None:
    """Size and parts in an event come from index and storage, because log lines lack them."""
    storage, index = disk_storage(tmp_path), MemoryIndex()
    body = json.dumps({"config": {"digest": "sha256:1"}, "layers": []}).encode()
    digest, absent = Digest.of(body), Digest.of(b"absent")
    storage.write(layout.blob(digest), body)
    index.record(digest, len(body), ContentKind.MANIFEST, 1.0)
    contents = StoredContents(storage, index)

    assert contents.size(digest) == len(body)
    assert contents.references(digest) == [{"digest": "sha256:1"}]
    assert contents.size(absent) is None
    assert contents.references(absent) is None


def test_content_that_is_no_manifest_has_no_references(tmp_path: Path) -> None:
    """For content that is not a manifest, `references` returns None without an error."""
    storage = disk_storage(tmp_path)
    for body in (b"[]", b"x", b'{"layers": 7}'):
        storage.write(layout.blob(Digest.of(body)), body)

        assert StoredContents(storage, MemoryIndex()).references(Digest.of(body)) is None


@pytest.mark.parametrize(("included", "fewest", "most"), [("true", 1, 400), ("false", 500, 5000)])
def test_few_lines_are_read_at_once_if_events_may_be_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, included: str, fewest: int, most: int
) -> None:
    """If events can be large, the collector reads fewer lines at a time.

    Events are large if they list the parts of manifests.
    """
    endpoint = {"name": "a", "url": "http://127.0.0.1:1/"}
    file = tmp_path / "config.yml"
    events = {"endpoints": [endpoint], "events": {"includereferences": included}}
    file.write_text(yaml.safe_dump({"notifications": events}))
    settings = config.load([str(file)], {"REGISTRYDIR": str(tmp_path)}).settings
    settings = settings.changed(run=tmp_path)
    (tmp_path / SETTINGS).touch()
    log = settings.storage.statedir / layout.ACCESS_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"".join(line(number(each)) + b"\n" for each in range(2000)))
    read: list[int] = []

    def of(_: PullEvents, lines: list[bytes]) -> list[Notification]:
        read.append(len(lines))
        return []

    monkeypatch.setattr(PullEvents, "of", of)
    collector = build(settings, Clock())._collector

    while collector.turn(0) == 0:
        pass

    assert sum(read) == 2000
    assert fewest <= max(read) <= most


def test_the_metrics_have_the_names_of_docker_distribution() -> None:
    """The metrics of endpoints have the names, labels and values of docker distribution 3.x."""
    found = notification_metrics.rows([Statistics("a", 3, 2, 10, 4, 5, {200: 10, 503: 4, 599: 1})])
    values = {
        (metric.name, *labels): amounts[0] for metric, rows in found for labels, amounts in rows
    }

    assert values == {
        ("registry_notifications_events", "Events", "a"): 15,
        ("registry_notifications_events", "Successes", "a"): 10,
        ("registry_notifications_events", "Failures", "a"): 4,
        ("registry_notifications_events", "Errors", "a"): 5,
        ("registry_notifications_pending_total", "a"): 3,
        ("entrepot_notifications_dropped", "a"): 2,
        ("registry_notifications_status", "200 OK", "a"): 10,
        ("registry_notifications_status", "503 Service Unavailable", "a"): 4,
        ("registry_notifications_status", "599 ", "a"): 1,
    }


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
