"""Tests of the JSON of events and envelopes, which have the fields of docker distribution."""

from __future__ import annotations

import json
import re
from typing import Any

from entrepot.notifications.endpoint import EventEndpoint, Source
from entrepot.notifications.events import (
    BLOB_TYPE,
    DELETE,
    MOST_REFERENCED,
    PUSH,
    EventTarget,
    NotifiedRequest,
    envelope,
    references,
    write_event,
)

SOURCE = Source("vm:5000", "an-instance")
REQUEST = NotifiedRequest(
    "an-id", "10.0.0.1:81", "r.example.com", "https", "PUT", "podman/5", "bob"
)
DIGEST = "sha256:" + "a" * 64


def made(action: str, target: EventTarget, source: Source = SOURCE) -> dict[str, Any]:
    """Return the parsed JSON of an event that a request has caused."""
    return dict(json.loads(write_event(action, target, REQUEST, source).text))


def test_an_event_has_the_fields_of_docker_distribution() -> None:
    """The event of a pushed manifest has exactly the fields of docker distribution 2.8."""
    found = made(PUSH, EventTarget("team/app", "a/type", 12, DIGEST, tag="v1"))

    assert re.fullmatch(r"[0-9a-f-]{36}", found.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found.pop("timestamp"))
    assert found == {
        "action": "push",
        "target": {
            "mediaType": "a/type",
            "size": 12,
            "digest": DIGEST,
            "length": 12,
            "repository": "team/app",
            "url": f"https://r.example.com/v2/team/app/manifests/{DIGEST}",
            "tag": "v1",
        },
        "request": {
            "id": "an-id",
            "addr": "10.0.0.1:81",
            "host": "r.example.com",
            "method": "PUT",
            "useragent": "podman/5",
        },
        "actor": {"name": "bob"},
        "source": {"addr": "vm:5000", "instanceID": "an-instance"},
    }


def test_each_event_has_its_own_id() -> None:
    """Two events about the same content have different IDs."""
    target = EventTarget("team/app", "a/type", 12, DIGEST)

    assert made(PUSH, target)["id"] != made(PUSH, target)["id"]


def test_the_url_of_a_blob_leads_to_the_blob() -> None:
    """The event of a blob has the blob's URL, whose path begins with the prefix of the API."""
    source = Source("vm", "i", prefix="/registry")
    found = made(PUSH, EventTarget("team/app", BLOB_TYPE, 12, DIGEST), source)

    assert found["target"]["url"] == f"https://r.example.com/registry/v2/team/app/blobs/{DIGEST}"


def test_http_host_begins_the_url() -> None:
    """If `http.host` is set, it replaces the scheme and host of the request in an event's URL."""
    source = Source("vm", "i", base="https://public.example.com")
    found = made(PUSH, EventTarget("team/app", BLOB_TYPE, 12, DIGEST), source)

    assert found["target"]["url"].startswith("https://public.example.com/v2/team/app/")


def test_the_event_of_a_deletion_has_repository_and_digest_only() -> None:
    """The event of a deletion has neither size nor URL, as in docker distribution."""
    assert made(DELETE, EventTarget("team/app", digest=DIGEST))["target"] == {
        "digest": DIGEST,
        "repository": "team/app",
    }
    assert made(DELETE, EventTarget("team/app", tag="v1"))["target"] == {
        "repository": "team/app",
        "tag": "v1",
    }


def test_an_anonymous_client_has_an_empty_actor() -> None:
    """If the client is anonymous, the event's actor is empty."""
    request = NotifiedRequest("", "", "", "http", "PUT", "", "")
    found = json.loads(write_event(PUSH, EventTarget("a"), request, SOURCE).text)

    assert found["actor"] == {}
    assert found["request"] == {"id": "", "method": "PUT", "useragent": ""}


def test_references_are_the_descriptors_of_a_manifest() -> None:
    """The references in an event are the descriptors that the manifest lists.

    These are the config and the layers of an image, or the images of an index.
    """
    config = {"mediaType": "c", "size": 1, "digest": "sha256:1", "data": "e30="}
    layer = {"mediaType": "l", "size": 2, "digest": "sha256:2", "annotations": {"a": "b"}}
    image = json.dumps({"config": config, "layers": [layer]}).encode()
    child = {"mediaType": "m", "size": 3, "digest": "sha256:3", "platform": {"os": "linux"}}

    config.pop("data")
    assert references(image) == [config, layer]
    assert references(json.dumps({"manifests": [child]}).encode()) == [child]
    assert references(json.dumps({"manifests": []}).encode()) == []


def test_the_references_of_an_event_are_bounded() -> None:
    """The references in an event are limited in size.

    Otherwise the event could contain all annotations of a manifest, which can have 4 MiB.
    """
    layers = [
        {"digest": f"sha256:{number}", "annotations": {"a": "x" * 20_000}} for number in range(9)
    ]

    assert references(json.dumps({"layers": layers}).encode()) == layers[:3]
    layers[0]["annotations"] = {"a": "x" * MOST_REFERENCED}
    assert references(json.dumps({"layers": layers}).encode()) == []


def test_a_manifest_that_is_nested_too_deep_has_no_references() -> None:
    """If a manifest is nested too deep to be parsed, its event has no references."""
    assert references(b'{"config":{"size":1},"x":' + b"[" * 9999 + b"]" * 9999 + b"}") == []


def test_an_envelope_has_its_events_in_order() -> None:
    """An envelope is a JSON object whose member `events` lists the events."""
    assert json.loads(envelope(['{"id":"1"}', '{"id":"2"}'])) == {
        "events": [{"id": "1"}, {"id": "2"}]
    }


def test_each_filter_excludes_events() -> None:
    """An endpoint gets an event unless it ignores the event's action or media type."""
    endpoint = EventEndpoint("a", "", ignored=frozenset({"x/y"}), actions=frozenset({"pull"}))

    assert endpoint.wants("push", "a/b")
    assert not endpoint.wants("pull", "a/b")
    assert not endpoint.wants("push", "x/y")
    assert EventEndpoint("a", "").wants("pull", "x/y")
