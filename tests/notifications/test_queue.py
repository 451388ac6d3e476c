"""Tests of the event queue, an SQLite database with the events of each endpoint."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.budget import QUEUE_OVERHEAD
from entrepot.notifications.errors import QueueUnavailable
from entrepot.notifications.events import PULL, PUSH, Notification
from entrepot.notifications.queue import CHUNK, EventQueue, remove

MUCH = 10**6


def event(text: str, action: str = PUSH) -> Notification:
    """Return an event whose JSON is *text*; by default it is the event of a push."""
    return Notification(action, "", text)


def pulls(count: int) -> list[Notification]:
    """Return the events of *count* pulls, numbered from 0."""
    return [event(f"pull{number}", PULL) for number in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an event queue whose file does not exist yet."""
    return tmp_path / "state" / "queue.sqlite"


@pytest.fixture
def queue(path: Path) -> Iterator[EventQueue]:
    """Yield an empty event queue with space for all events of a test."""
    found = EventQueue(path, MUCH, is_durable=True)
    yield found
    found.close()


def test_events_leave_the_queue_in_their_order(queue: EventQueue) -> None:
    """The queue returns the events of an endpoint in the order in which they were appended."""
    queue.append({"a": [event("1"), *pulls(2), event("2")]})
    queue.append({"a": [event("3")]})
    seen: list[str] = []
    while (group := queue.first("a", 2, MUCH)).events:
        seen += group.events
        queue.delivered("a", group, 200)

    assert seen == ["1", "pull0", "pull1", "2", "3"]


def test_an_event_stays_until_it_is_delivered(queue: EventQueue, path: Path) -> None:
    """The queue returns an event until it is marked as delivered, even to a new process."""
    queue.append({"a": [event("1"), event("2")]})
    queue.first("a", 1, MUCH)
    queue.close()

    assert EventQueue(path, MUCH, is_durable=False).first("a", 9, MUCH).events == ("1", "2")


def like(template: str, number: int) -> Notification:
    """Return the event of the pull *number*, with *template* as its template."""
    return Notification(
        PULL, "", template, f"{number:08}-89ab\t{1_790_000_000_000 + number}\th\t{number}"
    )


def test_pulls_that_share_templates_leave_the_queue_as_they_were(queue: EventQueue) -> None:
    """If pulls share a template in the queue, their events are returned unchanged, in order."""
    one, other = (f'{{"id":"\t","timestamp":"\t","{each}":"\t","addr":"\t"}}' for each in "ab")
    events = [
        *(like(each, number) for number, each in enumerate([one, other, one, one, other])),
        event('{"pull":"whole"}', PULL),
        like(one, 5),
        event('{"push":1}'),
        *(like(other, number) for number in range(CHUNK + 2)),
    ]
    queue.append({"a": events})
    seen: list[str] = []
    while (group := queue.first("a", 3, MUCH)).events:
        seen += group.events
        queue.delivered("a", group, 200)

    assert seen == [each.text for each in events]
    assert queue.statistics()[0].pending == 0


def test_a_pull_that_shares_its_template_takes_little_space(queue: EventQueue, path: Path) -> None:
    """A thousand pulls with one template take much less space than a thousand templates."""
    template = '{"id":"\t","timestamp":"\t","id":"\t","addr":"\t","text":"' + "x" * 5000 + '"}'
    queue.append({"a": [like(template, number) for number in range(1000)]})
    queue.close()

    assert path.stat().st_size < 200_000


def test_a_row_of_pulls_can_be_delivered_in_parts(queue: EventQueue) -> None:
    """The queue stores many pulls in one database row, but each pull can be delivered alone."""
    queue.append({"a": pulls(CHUNK + 1)})
    seen = []
    while (group := queue.first("a", 3, MUCH)).events:
        seen.append(len(group.events))
        queue.delivered("a", group, 200)

    assert sum(seen) == CHUNK + 1
    assert queue.statistics()[0].pending == 0


def test_a_group_has_at_most_the_given_bytes(queue: EventQueue) -> None:
    """One read returns at most the given number of bytes, but at least one event."""
    queue.append({"a": [event("x" * 10), event("y" * 10), event("z")]})

    assert queue.first("a", 9, 15).events == ("x" * 10,)
    assert queue.first("a", 9, 20).events == ("x" * 10, "y" * 10)
    assert len(queue.first("a", 9, 1).events) == 1


def test_the_endpoints_have_separate_queues(queue: EventQueue) -> None:
    """After an event was delivered to one endpoint, it remains queued for the other endpoints."""
    queue.append({"a": [event("1")], "b": [event("1"), event("2")]})
    queue.delivered("a", queue.first("a", 9, MUCH), 200)

    assert queue.first("a", 9, MUCH).events == ()
    assert queue.first("b", 9, MUCH).events == ("1", "2")


def test_a_full_queue_drops_its_oldest_pulls_and_counts_them(path: Path) -> None:
    """A full queue drops the oldest pulls, and counts the dropped pulls.

    The queue keeps pushes longer, because pushes matter more.
    """
    queue = EventQueue(path, 1000, is_durable=False)
    queue.append({"a": [event("push")]})
    for number in range(8):
        queue.append({"a": [event(f"pull{number}", PULL)]})
    found = queue.statistics()[0]

    assert queue.first("a", 99, MUCH).events[:1] == ("push",)
    assert queue.first("a", 99, MUCH).events[-1] == "pull7"
    assert found.dropped > 0
    assert found.events == 9
    assert found.pending == len(queue.first("a", 99, MUCH).events)
    queue.close()


def test_a_full_queue_without_pulls_drops_its_oldest_events(path: Path) -> None:
    """If a full queue contains only pushes, it drops the oldest push."""
    queue = EventQueue(path, 1000, is_durable=False)
    for number in range(8):
        queue.append({"a": [event(f"push{number}")]})

    assert queue.first("a", 99, MUCH).events[0] != "push0"
    assert queue.first("a", 99, MUCH).events[-1] == "push7"
    queue.close()


def test_an_event_that_is_larger_than_the_queue_is_dropped(path: Path) -> None:
    """If an event is larger than the whole queue, it is dropped and counted.

    No other event is dropped to make room for it.
    """
    queue = EventQueue(path, 1000, is_durable=False)
    queue.append({"a": [event("small"), event("x" * 2000)]})

    assert queue.first("a", 9, MUCH).events == ("small",)
    assert queue.statistics()[0].dropped == 1
    queue.close()


def test_a_full_queue_of_one_endpoint_leaves_the_other_unaffected(path: Path) -> None:
    """If a failing endpoint's queue is full, the events of other endpoints are not dropped."""
    queue = EventQueue(path, 1000, is_durable=False)
    queue.append({"b": [event("kept")]})
    for number in range(20):
        queue.append({"dead": [event(f"push{number}")]})

    assert queue.first("b", 9, MUCH).events == ("kept",)
    queue.close()


def test_an_event_that_was_dropped_while_it_was_sent_is_not_counted_twice(path: Path) -> None:
    """If an event is dropped while it is being sent, the number of pending events stays correct."""
    queue = EventQueue(path, 1000, is_durable=False)
    queue.append({"a": [event("old")]})
    group = queue.first("a", 1, MUCH)
    for number in range(20):
        queue.append({"a": [event(f"push{number}")]})
    queue.delivered("a", group, 200)

    assert queue.statistics()[0].pending == len(queue.first("a", 99, MUCH).events)
    queue.close()


def test_the_position_is_that_of_the_last_events(queue: EventQueue, path: Path) -> None:
    """The queue stores the position in the access log that was last passed to `append`.

    One commit stores this position and the events, so a restart finds both or neither.
    """
    queue.append({"a": [event("1")]}, "first")
    queue.append({"a": [event("2")]})
    queue.append({"a": []}, "second")

    assert EventQueue(path, MUCH, is_durable=False).position() == "second"


def test_an_interrupted_append_leaves_neither_events_nor_position(queue: EventQueue) -> None:
    """If an append fails, neither its events nor its position in the access log is stored.

    So the logger can repeat the append.
    """
    queue.append({"a": [event("1")]}, "first")
    broken = event("2")._replace(template=None)  # type: ignore[arg-type]  # fails in the middle
    with pytest.raises(TypeError):
        queue.append({"a": [event("3")], "b": [broken]}, "second")

    assert queue.first("a", 9, MUCH).events == ("1",)
    assert queue.position() == "first"


def test_endpoints_that_are_no_longer_configured_lose_their_events(queue: EventQueue) -> None:
    """`keep_only` deletes and counts the events of endpoints that are no longer configured."""
    queue.append({"a": [event("1")], "b": [event("1"), event("2")]})

    assert queue.keep_only(["a", "c"]) == 2
    assert queue.first("b", 9, MUCH).events == ()
    assert [each.name for each in queue.statistics()] == ["a", "c"]


def test_attempts_are_counted_by_their_result(queue: EventQueue) -> None:
    """Delivery attempts are counted by result, with the kinds that docker distribution uses."""
    queue.append({"a": pulls(3)})
    group = queue.first("a", 2, MUCH)
    queue.failed("a", group, None)
    queue.failed("a", group, 500)
    queue.delivered("a", group, 202)
    found = queue.statistics()[0]

    assert (found.events, found.pending, found.successes) == (3, 1, 2)
    assert (found.failures, found.errors) == (2, 2)
    assert found.statuses == {500: 2, 202: 2}


def test_a_damaged_file_is_replaced(queue: EventQueue, path: Path) -> None:
    """If SQLite cannot read the queue's file, the file is renamed to `.broken`.

    The queue then starts empty.
    """
    queue.append({"a": [event("1")]})
    queue.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(QueueUnavailable):
        queue.append({"a": [event("2")]})
    queue.append({"a": [event("3")]})

    assert queue.first("a", 9, MUCH).events == ("3",)
    assert path.with_name(f"{path.name}.broken").exists()


def test_a_queue_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    """If the queue's file cannot be created, `append` raises QueueUnavailable."""
    (tmp_path / "file").write_text("")
    queue = EventQueue(tmp_path / "file" / "queue.sqlite", MUCH, is_durable=True)

    with pytest.raises(QueueUnavailable):
        queue.append({"a": [event("1")]})


def test_threads_that_wait_for_a_queue_in_use_give_up_together(
    queue: EventQueue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a thread has waited in vain for a locked queue, the threads behind it fail at once."""
    monkeypatch.setattr("entrepot.notifications.queue._BUSY_S", 0.01)
    now = 1.0
    monkeypatch.setattr("entrepot.notifications.queue.time.monotonic", lambda: now)
    queue.append({"a": [event("1")]})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnavailable, match="locked"):
        queue.append({"a": [event("2")]})
    other.close()

    with pytest.raises(QueueUnavailable, match="another process has locked the file"):
        queue.append({"a": [event("3")]})
    now = 2.0
    queue.append({"a": [event("4")]})
    assert queue.first("a", 9, MUCH).events == ("1", "4")


def test_a_forked_process_has_its_own_connection(queue: EventQueue) -> None:
    """A forked process opens its own connection to the database.

    SQLite forbids the use of one connection in two processes.
    """
    queue.append({"a": [event("1")]})
    child = os.fork()
    if child == 0:
        queue.append({"a": [event("2")]})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    queue.append({"a": [event("3")]})

    assert queue.first("a", 9, MUCH).events == ("1", "2", "3")


def test_an_append_of_a_durable_queue_is_synced(path: Path) -> None:
    """A durable queue syncs each commit to the disk, so a power cut loses no queued event."""
    modes = []
    for is_durable in (True, False):
        each = EventQueue(path, MUCH, is_durable=is_durable)
        modes.append(each._open().execute("PRAGMA synchronous").fetchone()[0])
        each.close()

    assert modes == [2, 1]


def test_an_emptied_queue_returns_its_space(path: Path) -> None:
    """After the last of many events has been delivered, the queue's file shrinks."""
    queue = EventQueue(path, 100 * MUCH, is_durable=False)
    queue.append({"a": [event("x" * 50_000) for _ in range(100)]})
    queue.close()
    large = path.stat().st_size
    group = queue.first("a", 1000, 100 * MUCH)
    queue.delivered("a", group, 200)
    queue.close()

    assert path.stat().st_size < large / 10


def test_the_files_of_a_removed_queue_are_gone(queue: EventQueue, path: Path) -> None:
    """`remove` deletes the files of a queue, and returns True if there were any."""
    queue.append({"a": [event("1")]})
    queue.close()

    assert remove(path)
    assert not remove(path)
    assert list(path.parent.iterdir()) == []


def test_a_file_of_a_later_version_is_not_used(queue: EventQueue, path: Path) -> None:
    """A queue file that a later version of Entrepot wrote is neither used nor changed."""
    queue.append({"a": [event("1")]})
    queue.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()

    with pytest.raises(QueueUnavailable):
        queue.append({"a": [event("2")]})


def test_the_file_of_a_full_queue_stays_within_its_share(path: Path) -> None:
    """The file of a full queue stays within its configured share of the disk.

    Events can fill three quarters of that share; the rest is reserved for SQLite's overhead.
    """
    share = 1024 * 1024
    queue = EventQueue(path, share * 3 // 4, is_durable=False)
    for number in range(200):
        queue.append({"a": [event(f"{number}" + "x" * 700, PULL) for _ in range(100)]})
        queue.append({"a": [event("y" * 700)]})
    total = sum(each.stat().st_size for each in path.parent.iterdir())
    found = queue.statistics()[0]
    queue.close()

    assert path.stat().st_size <= share
    assert total <= share + QUEUE_OVERHEAD
    assert found.dropped > 10_000
    assert found.events == 200 * 101
