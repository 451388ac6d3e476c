"""Tests of the delivery of queued events: order, retries, pauses, and the size of envelopes.

An envelope is the body of a request to an endpoint and contains one or more events.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.notifications.delivery import Backoff, EnvelopeSize, EventDelivery
from entrepot.notifications.endpoint import EventEndpoint
from entrepot.notifications.errors import NotDelivered, QueueUnavailable
from entrepot.notifications.events import PUSH, Notification
from entrepot.notifications.queue import EventQueue, Group


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[EventQueue]:
    """Yield an empty event queue on disk."""
    found = EventQueue(tmp_path / "queue.sqlite", 10**6, is_durable=False)
    yield found
    found.close()


def fill(queue: EventQueue, count: int) -> list[str]:
    """Queue *count* events for the endpoint `a` and return their IDs."""
    numbers = [str(number) for number in range(count)]
    queue.append({"a": [Notification(PUSH, "", json.dumps({"id": each})) for each in numbers]})
    return numbers


def eventually(condition: Callable[[], object]) -> None:
    """Wait until *condition* returns a true value; the delivery runs in another thread."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Post:
    """An HTTP client for envelopes; *accepts* decides by the IDs whether an envelope succeeds."""

    def __init__(self, accepts: Callable[[list[str]], bool] = lambda _: True) -> None:
        self._accepts = accepts
        self.attempts: list[list[str]] = []
        self.received: list[str] = []

    def __call__(self, body: bytes) -> int:
        """Record the IDs of the envelope; raise NotDelivered if *accepts* returns False."""
        numbers = [each["id"] for each in json.loads(body)["events"]]
        self.attempts.append(numbers)
        if not self._accepts(numbers):
            raise NotDelivered("refused", 500)
        self.received += numbers
        return 200


def test_all_events_are_delivered_in_order(queue: EventQueue) -> None:
    """Each event is delivered once and in order, in envelopes with a growing number of events."""
    numbers, post = fill(queue, 3000), Post()
    delivery = EventDelivery(EventEndpoint("a", ""), queue, post)
    while delivery.turn() == 0:
        pass

    assert post.received == numbers
    assert [len(each) for each in post.attempts[:4]] == [1, 2, 4, 8]
    assert max(map(len, post.attempts)) == 1024


def test_a_refused_event_is_sent_again_until_it_is_accepted(queue: EventQueue) -> None:
    """A rejected event is resent until the endpoint accepts it, and the order is preserved."""
    numbers = fill(queue, 20)
    post = Post(lambda _: len(post.attempts) > 8)
    delivery = EventDelivery(EventEndpoint("a", "", backoff=0.01), queue, post)
    while delivery.turn() == 0:
        pass

    assert post.received == numbers
    assert queue.statistics()[0].failures == 8


def test_a_receiver_of_small_envelopes_gets_all_events(queue: EventQueue) -> None:
    """If an endpoint accepts at most three events at a time, it still gets all events."""
    numbers, post = fill(queue, 20), Post(lambda numbers: len(numbers) <= 3)
    delivery = EventDelivery(EventEndpoint("a", "", threshold=99), queue, post)
    while delivery.turn() == 0:
        pass

    assert post.received == numbers


def test_from_the_threshold_on_each_attempt_waits_for_the_backoff() -> None:
    """As long as there are fewer failures than the threshold, the delivery retries immediately.

    From the threshold on, each attempt waits for the backoff.
    """
    breaker = Backoff(threshold=2, backoff=5.0)
    breaker.failed(100)
    below = breaker.wait_s(100)
    breaker.failed(101)

    assert below == 0
    assert breaker.wait_s(102) == 4
    assert breaker.wait_s(106) == 0
    breaker.failed(106)
    assert breaker.wait_s(106) == 5
    breaker.succeeded()
    assert breaker.wait_s(106) == 0


def test_an_envelope_grows_only_while_the_receiver_responds_quickly() -> None:
    """After a response that takes a quarter of the timeout or more, envelopes become smaller.

    If envelopes grew further, the endpoint would at some point need longer than the timeout.
    """
    size = EnvelopeSize(timeout=1.0)
    for _ in range(3):
        size.succeeded(0.1)
    grown = size.events
    size.succeeded(0.3)

    assert (grown, size.events) == (8, 4)
    size.failed(503, 1000)
    assert size.events == 1


def test_an_envelope_that_is_too_large_is_not_tried_again() -> None:
    """After a 413, later envelopes have at most half as many events as the rejected envelope."""
    size = EnvelopeSize(timeout=1.0)
    for _ in range(3):
        size.succeeded(0.1)
    size.failed(413, 1000)
    for _ in range(9):
        size.succeeded(0.1)

    assert size.events == 4


def test_after_a_large_envelope_failed_no_other_is_large(queue: EventQueue) -> None:
    """An endpoint that disconnects at envelopes above 100 kB gets all events after one failure.

    The delivery remembers the size in bytes of the failed envelope.
    """
    texts = [json.dumps({"id": str(number), "x": "x" * 1000}) for number in range(400)]
    queue.append({"a": [Notification(PUSH, "", each) for each in texts]})
    received: list[str] = []
    sizes: list[int] = []

    def post(body: bytes) -> int:
        sizes.append(len(body))
        if len(body) > 100_000:
            raise NotDelivered("the connection was closed without a response")
        received.extend(each["id"] for each in json.loads(body)["events"])
        return 200

    delivery = EventDelivery(EventEndpoint("a", ""), queue, post)
    while delivery.turn() == 0:
        pass

    assert received == [str(number) for number in range(400)]
    assert len([each for each in sizes if each > 100_000]) == 1
    assert queue.statistics()[0].errors < 400


def test_an_accepted_envelope_is_not_sent_again_because_the_queue_is_busy(
    queue: EventQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the queue is locked after an envelope was accepted, the envelope is not sent again."""
    numbers, post = fill(queue, 1), Post()
    delivery = EventDelivery(EventEndpoint("a", ""), queue, post)
    recorded = queue.delivered

    def fail(*_: object) -> None:
        raise QueueUnavailable("full")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "delivered", fail)
        assert delivery.turn() > 0
        assert delivery.turn() > 0
    del recorded
    while delivery.turn() == 0:
        pass

    assert post.attempts == [numbers]
    assert queue.statistics()[0].pending == 0


def test_a_failing_receiver_is_logged_once(
    queue: EventQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint is logged once when it begins to fail and once when it has recovered."""
    fill(queue, 1)
    post = Post(lambda _: len(post.attempts) > 3)
    delivery = EventDelivery(EventEndpoint("a", "http://bob:secret@h/"), queue, post)
    with caplog.at_level(logging.INFO):
        while delivery.turn() == 0:
            pass

    assert [each.getMessage() for each in caplog.records] == [
        "events cannot be delivered to a",
        "events are delivered to a again",
    ]
    assert "secret" not in caplog.text


def test_an_empty_queue_is_not_read_until_it_changes(
    queue: EventQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery reads an empty queue again only after the queue's file has changed.

    Another process can change the file.
    """
    monkeypatch.setattr("entrepot.notifications.queue._SETTLED_NS", -(10**18))
    post, reads, first = Post(), list[str](), queue.first

    def counted(endpoint: str, most: int, most_bytes: int) -> Group:
        reads.append(endpoint)
        return first(endpoint, most, most_bytes)

    monkeypatch.setattr(queue, "first", counted)
    delivery = EventDelivery(EventEndpoint("a", ""), queue, post)
    fill(queue, 1)
    while delivery.turn() == 0:
        pass
    before = len(reads)
    for _ in range(3):
        delivery.turn()
    unread = len(reads) - before
    other = EventQueue(tmp_path / "queue.sqlite", 10**6, is_durable=True)
    numbers = fill(other, 2)
    while delivery.turn() == 0:
        pass
    other.close()

    assert unread == 0
    assert post.received == ["0", *numbers]


def test_a_file_that_was_just_written_has_no_stamp(
    queue: EventQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the queue's file was just written, `stamp` returns None.

    A stamp consists of the time and size of the file; an equal stamp means an unchanged file.
    However, two writes in quick succession can have the same time.
    """
    monkeypatch.setattr("entrepot.notifications.queue._SETTLED_NS", 10**18)
    fill(queue, 1)

    assert queue.stamp() is None


def test_the_thread_delivers_new_events_and_ends(queue: EventQueue) -> None:
    """A started delivery also sends events that are queued later; `stop` ends the thread."""
    post = Post()
    delivery = EventDelivery(EventEndpoint("a", ""), queue, post)
    delivery.start()
    numbers = fill(queue, 3)
    delivery.wake()
    eventually(lambda: post.received == numbers)
    delivery.stop(10)

    assert not delivery._thread.is_alive()
