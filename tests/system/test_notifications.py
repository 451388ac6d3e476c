"""Notifications have docker distribution's events, and each endpoint gets all of them in order."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import ACCEPT
from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.receiver import Received, Receiver, Reply
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull, pull_manifest
from tests.system.pushes import put_manifest
from tests.system.registries import Registry
from tests.system.waiting import eventually

NAME = "team/app"
OUTAGE_S = 60
_DELETE = {"enabled": True}
_ACCEPT = {"Accept": ", ".join(ACCEPT)}


def _settings(
    endpoints: Sequence[Mapping[str, Any]], *, references: bool = False
) -> dict[str, Any]:
    events = {"includereferences": references}
    return {"notifications": {"events": events, "endpoints": list(endpoints)}}


def _ours(endpoints: Sequence[Mapping[str, Any]], *, references: bool = False) -> dict[str, Any]:
    return _settings(endpoints, references=references) | {"storage": {"delete": _DELETE}}


# ---- the same requests to the appliance and to docker-registry


def test_the_events_are_those_of_docker_distribution(tmp_path: Path, start: Start) -> None:
    """The same requests cause the same events as with Debian's docker-registry, in the same order.

    docs/migration.md lists the exceptions: the fields that differ.
    """
    image = of_size(KB, 970)
    with Receiver() as theirs, Receiver() as ours:
        endpoint = {"name": "a", "headers": {"X-Token": ["one", "two"]}}
        settings = _settings([{**endpoint, "url": theirs.url}], references=True)
        with Registry(tmp_path / "registry", settings=settings) as registry:
            _drive(registry.http, image, theirs)
            expected = _comparable(theirs.accepted, registry.http)
        appliance = start(Setup(settings=_ours([{**endpoint, "url": ours.url}], references=True)))
        _drive(appliance.http, image, ours)

        assert _comparable(ours.accepted, appliance.http) == expected
        assert len(expected) > 15
        for name in ("content-type", "x-token"):
            assert ours.requests[0].values(name) == theirs.requests[0].values(name)
        assert set(map(_shape, ours.accepted)) == set(map(_shape, theirs.accepted))


def _drive(http: HttpClient, image: Image, receiver: Receiver) -> None:
    """Send groups of requests of each kind; after each group, wait for its events."""
    digest, layer = str(image.digest), Digest.of(image.layers[0])
    for blob in image.blobs:
        _push_blob(http, blob)
    for reference in ("v1", "v2", digest):
        put_manifest(http, NAME, reference, image.manifest, image.media_type)
    _settled(receiver)
    for method in ("GET", "HEAD"):
        for reference in ("v1", digest, "none"):
            _send(http, method, manifest_path(NAME, reference), **_ACCEPT)
        _send(http, method, blob_path(NAME, layer))
    known = f'"{digest}"'
    _send(http, "GET", manifest_path(NAME, "v1"), **_ACCEPT, **{"If-None-Match": known})
    _send(http, "GET", blob_path(NAME, layer), **{"If-None-Match": f'"{layer}"'})
    _send(http, "GET", blob_path(NAME, layer), Range="bytes=0-9")
    _settled(receiver)
    _send(http, "POST", f"/v2/other/app/blobs/uploads/?mount={layer}&from={NAME}")
    _send(http, "POST", f"/v2/other/app/blobs/uploads/?mount={'sha256:' + '0' * 64}&from={NAME}")
    _send(http, "DELETE", blob_path("other/app", layer))
    _send(http, "DELETE", blob_path("other/app", layer))
    _send(http, "DELETE", manifest_path(NAME, digest))
    _send(http, "DELETE", manifest_path(NAME, digest))
    _send(http, "GET", "/v2/_catalog")
    _settled(receiver)


def _push_blob(http: HttpClient, content: bytes) -> None:
    begun = http.request("POST", f"/v2/{NAME}/blobs/uploads/")
    target = "/v2/" + begun.headers["location"].partition("/v2/")[2]
    target += f"{'&' if '?' in target else '?'}digest={Digest.of(content)}"
    headers = {"Content-Type": "application/octet-stream", "User-Agent": "pusher/1"}
    assert http.request("PUT", target, headers=headers, body=content).status == 201


def _send(http: HttpClient, method: str, path: str, **headers: str) -> None:
    http.request(method, path, headers={"User-Agent": f"test/{method}", **headers})


def _settled(receiver: Receiver) -> None:
    """Wait until no event has arrived for a second."""
    seen = [-1, time.monotonic()]

    def is_still() -> bool:
        if len(receiver.accepted) != seen[0]:
            seen[:] = [len(receiver.accepted), time.monotonic()]
        return time.monotonic() - seen[1] > 1

    eventually(is_still, what="no more events arrive", within=30)


def _comparable(events: Sequence[Mapping[str, Any]], http: HttpClient) -> list[dict[str, Any]]:
    """Return the events without the values that differ between two runs of one registry."""
    found = json.loads(json.dumps(events))
    for each in found:
        each["target"].pop("url", None)
        request = each["request"]
        assert request.pop("addr").startswith("127.0.0.1:")
        assert request.pop("host") == http.netloc
        assert len(request.pop("id")) == 36
        assert each["source"]["addr"].endswith(f":{http.port}")
        for name in ("id", "timestamp", "source"):
            del each[name]
    return list(found)


def _shape(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Return an event's action, the path of its URL after `/v2/`, and the names of its fields."""
    names = [
        f"{name}.{below}"
        for name, value in event.items()
        if isinstance(value, dict)
        for below in value
    ]
    url = str(event["target"].get("url", ""))
    return event["action"], url.partition("/v2/")[2], *sorted([*event, *names])


# ---- the delivery of events


@contextmanager
def _silent() -> Iterator[str]:
    """Yield the URL of a receiver that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


class Failing:
    """Replies 503 to deliveries until the test sets `is_repaired`, and 200 afterwards."""

    def __init__(self) -> None:
        self.is_repaired = False
        self.refused = 0

    def __call__(self, _: Received) -> Reply:
        """Return the status and the headers of the reply."""
        self.refused += not self.is_repaired
        return (200 if self.is_repaired else 503), {}


def _traffic(http: HttpClient, image: Image, tags: Sequence[str]) -> None:
    """Push a manifest under each tag, and pull it by each tag."""
    for tag in tags:
        assert put_manifest(http, NAME, tag, image.manifest, image.media_type).status == 201
        pull_manifest(http, NAME, tag)


def _ids(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(each["id"]) for each in events]


def _pending(appliance: Appliance, endpoint: str) -> float:
    return appliance.metric("registry_notifications_pending_total", endpoint=endpoint)


def test_a_receiver_that_fails_for_a_while_gets_everything_in_order(
    start: Start, public: Registry
) -> None:
    """While one receiver fails and another never responds, clients notice nothing.

    When the failing receiver works again, it gets all events, in the same order as the receiver
    that works all the time.
    """
    image, reply = of_size(KB, 971), Failing()
    public.push("shown", "v1", image)
    with Receiver() as good, Receiver(reply) as failing, Receiver() as writes, _silent() as silent:
        endpoints: list[dict[str, Any]] = [
            {"name": "good", "url": good.url},
            {"name": "failing", "url": failing.url, "threshold": 3, "backoff": "100ms"},
            {"name": "silent", "url": silent, "timeout": "200ms"},
            {"name": "writes", "url": writes.url, "ignore": {"actions": ["pull"]}},
            {"name": "off", "url": good.url, "disabled": True},
        ]
        appliance = start(Setup({"one.test": {"url": public.url}}, _ours(endpoints)))
        for blob in image.blobs:
            _push_blob(appliance.http, blob)
        _traffic(appliance.http, image, [f"v{number}" for number in range(20)])
        cached = _pull_until_cached(appliance.http, "one.test/shown", image.digest)
        _settled(good)
        expected = _ids(good.accepted)
        eventually(lambda: reply.refused > 3, what="deliveries fail")

        assert failing.accepted == []
        assert len(expected) == len(image.blobs) + 40 + cached
        assert _pending(appliance, "failing") == _pending(appliance, "silent") == len(expected)
        assert {each["action"] for each in writes.accepted} == {"push"}
        assert len(writes.accepted) == len(image.blobs) + 20
        assert "silent" in appliance.entrepot("status").stdout

        reply.is_repaired = True
        eventually(lambda: len(failing.accepted) >= len(expected), what="all events arrive")
        eventually(lambda: _pending(appliance, "failing") == 0, what="no event waits")

        assert _ids(failing.accepted) == expected
        assert appliance.metric("registry_notifications_events_total", endpoint="failing") > 0
        assert appliance.metric("entrepot_notifications_dropped_total") == 0
        assert _pending(appliance, "silent") == len(expected)


def _pull_until_cached(http: HttpClient, name: str, digest: Digest) -> int:
    """Pull an image, and repeat the pull of its manifest until HAProxy's cache serves three pulls.

    Return how many requests were sent.
    """
    hits, pulls = 0, len(pull(http, name, digest))
    while hits < 3:
        hits += "detail=memory" in pull_manifest(http, name, digest).headers["cache-status"]
        pulls += 1
        assert pulls < 500, "the cache never answers"
    return pulls


def test_waiting_events_survive_a_restart_and_lose_a_removed_endpoint(
    tmp_path: Path, start: Start
) -> None:
    """After a restart queued events are delivered.

    If no endpoint is configured any more, the next start deletes the queue.
    """
    image, reply = of_size(KB, 972), Failing()
    data = tmp_path / "data"
    with Receiver(reply) as receiver:
        settings = _ours([{"name": "a", "url": receiver.url, "backoff": "100ms"}])
        first = start(Setup(settings=settings, data=data))
        for blob in image.blobs:
            _push_blob(first.http, blob)
        first.stop()
        reply.is_repaired = True
        second = start(Setup(settings=settings, data=data))
        eventually(lambda: len(receiver.accepted) == len(image.blobs), what="the events arrive")
        second.stop()
        third = start(Setup(data=data))
        eventually(
            lambda: "the event queue was removed" in third.output(), what="the queue is removed"
        )

    assert not list((data / "entrepot").glob("notifications*"))
    assert not third.program("notifications")


@pytest.mark.soak
def test_a_minute_of_failures_loses_no_event(start: Start) -> None:
    """A receiver that fails for a minute under load gets all events afterwards, in order."""
    image, reply = of_size(KB, 973), Failing()
    with Receiver() as good, Receiver(reply) as failing:
        endpoints = [{"name": "good", "url": good.url}, {"name": "failing", "url": failing.url}]
        appliance = start(Setup(settings=_ours(endpoints)))
        for blob in image.blobs:
            _push_blob(appliance.http, blob)
        ends, number = time.monotonic() + OUTAGE_S, 0
        while time.monotonic() < ends:
            _traffic(appliance.http, image, [f"v{number % 50}"])
            number += 1
        reply.is_repaired = True
        _settled(good)
        eventually(
            lambda: len(failing.accepted) >= len(good.accepted), what="all events arrive", within=60
        )

        assert len(good.accepted) == len(image.blobs) + 2 * number
        assert _ids(failing.accepted) == _ids(good.accepted)
