"""Tests of `Recorder`, through which a worker queues the events of pushes and deletions."""

from __future__ import annotations

import json
from pathlib import Path

from entrepot.notifications.endpoint import EventEndpoint, Source
from entrepot.notifications.events import DELETE, PUSH, EventTarget, NotifiedRequest
from entrepot.notifications.queue import EventQueue
from entrepot.notifications.recorder import Recorder

REQUEST = NotifiedRequest("an-id", "", "h", "http", "PUT", "", "")
TARGET = EventTarget("team/app", "a/type", 1, "sha256:1")


def test_each_endpoint_gets_the_events_that_it_wants(tmp_path: Path) -> None:
    """Each endpoint gets the events that pass its filters.

    The same event has the same ID for all endpoints.
    """
    queue = EventQueue(tmp_path / "queue.sqlite", 10**6, is_durable=True)
    endpoints = [
        EventEndpoint("all", ""),
        EventEndpoint("no pushes", "", actions=frozenset({PUSH})),
        EventEndpoint("no type", "", ignored=frozenset({"a/type"})),
    ]
    lost: list[int] = []
    record = Recorder(queue, endpoints, Source("vm", "i"), lost.append)
    record(REQUEST, [(PUSH, TARGET), (DELETE, EventTarget("team/app", digest="sha256:1"))])
    found = {
        each.name: [json.loads(text) for text in queue.first(each.name, 9, 10**6).events]
        for each in endpoints
    }
    queue.close()

    actions = {name: [each["action"] for each in events] for name, events in found.items()}
    assert actions == {"all": [PUSH, DELETE], "no pushes": [DELETE], "no type": [DELETE]}
    assert found["all"][1]["id"] == found["no type"][0]["id"]
    assert lost == []


def test_an_event_that_cannot_be_queued_is_counted_and_not_raised(tmp_path: Path) -> None:
    """If an event cannot be queued, it is counted as lost, and the client's push still succeeds.

    An event is counted once for all endpoints, and only if an endpoint wants it.
    """
    (tmp_path / "file").write_text("")
    queue = EventQueue(tmp_path / "file" / "queue.sqlite", 10**6, is_durable=True)
    lost: list[int] = []
    endpoints = [EventEndpoint(name, "", actions=frozenset({DELETE})) for name in ("a", "b")]
    Recorder(queue, endpoints, Source("vm", "i"), lost.append)(
        REQUEST, [(PUSH, TARGET), (DELETE, TARGET), (PUSH, TARGET)]
    )

    assert lost == [2]


def test_without_a_wanted_event_the_queue_is_not_opened(tmp_path: Path) -> None:
    """If no endpoint wants an event of the request, the queue's file is not opened."""
    queue = EventQueue(tmp_path / "queue.sqlite", 10**6, is_durable=True)
    endpoints = [EventEndpoint("a", "", actions=frozenset({PUSH}))]
    Recorder(queue, endpoints, Source("vm", "i"), lambda _: None)(REQUEST, [(PUSH, TARGET)])

    assert list(tmp_path.iterdir()) == []
