"""The worker queues the events of a push, mount or deletion before it sends the response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.notifications.endpoint import Source
from entrepot.notifications.events import EventTarget, NotifiedRequest, write_event
from entrepot.registry.api.notify import Notifier
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, pushing
from tests.registry.worker_modules import worker_modules

_MADE = image([filler(1000, 1)])
_LAYER = Digest.of(_MADE.layers[0])
_SOURCE = Source("vm:5000", "i")


class Recorded:
    """An event queue that keeps the JSON of each event in memory."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(
        self, request: NotifiedRequest, happened: Sequence[tuple[str, EventTarget]]
    ) -> None:
        """Encode the events as the real event queue does, and keep the decoded JSON."""
        made = [write_event(action, target, request, _SOURCE) for action, target in happened]
        self.events += [json.loads(each.text) for each in made]

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the action and target (without its URL) of each event since the previous call."""
        taken, self.events = self.events, []
        for each in taken:
            each["target"].pop("url", None)
        return [(each["action"], each["target"]) for each in taken]


@pytest.fixture
def recorded() -> Recorded:
    """Return the event queue that keeps its events in memory."""
    return Recorded()


@pytest.fixture
def p(tmp_path: Path, recorded: Recorded) -> Pushing:
    """Return a registry that has an image and puts its events into the queue of the test."""
    found = pushing(tmp_path, delete_enabled=True, events=Notifier(recorded, has_references=False))
    found.image(_MADE)
    recorded.take()
    return found


def _blob(digest: Digest, size: int, **fields: str) -> dict[str, Any]:
    described = {"mediaType": "application/octet-stream", "size": size, "length": size}
    return {**described, "digest": str(digest), "repository": NAME, **fields}


def _manifest(**fields: str) -> dict[str, Any]:
    size = len(_MADE.manifest)
    described = {"mediaType": _MADE.media_type, "size": size, "length": size}
    return {**described, "digest": str(_MADE.digest), "repository": NAME, **fields}


def test_a_pushed_blob_is_one_event(p: Pushing, recorded: Recorded) -> None:
    """An uploaded blob causes one `push` event when the last request of the upload succeeds."""
    digest = p.blob(b"content")

    assert recorded.take() == [("push", _blob(digest, 7))]


def test_a_blob_in_a_single_post_is_one_event(p: Pushing, recorded: Recorded) -> None:
    """A blob that a client pushes with a single POST causes one event."""
    digest = Digest.of(b"content")
    p.ask("POST", f"blobs/uploads/?digest={digest}", b"content")

    assert recorded.take() == [("push", _blob(digest, 7))]


def test_a_rejected_blob_is_no_event(p: Pushing, recorded: Recorded) -> None:
    """An upload that is rejected for a wrong digest causes no event."""
    p.send("PUT", f"{p.begin()}?digest={Digest.of(b'other')}", b"content")

    assert recorded.take() == []


@pytest.mark.parametrize("source", ["", f"&from={NAME}"], ids=["any", "from"])
def test_a_mount_names_its_source(p: Pushing, recorded: Recorded, source: str) -> None:
    """A mounted blob causes a `mount` event, which names the repository that had the blob."""
    done = p.send("POST", f"/v2/other/app/blobs/uploads/?mount={_LAYER}{source}")

    assert done.status_code == 201
    expected = _blob(_LAYER, 1000, fromRepository=NAME) | {"repository": "other/app"}
    assert recorded.take() == [("mount", expected)]


def test_a_mount_that_begins_an_upload_is_no_event(p: Pushing, recorded: Recorded) -> None:
    """If a blob to mount does not exist, the worker starts an upload, which causes no event."""
    p.ask("POST", f"blobs/uploads/?mount={Digest.of(b'absent')}&from={NAME}")

    assert recorded.take() == []


def test_a_pushed_manifest_is_an_event_for_each_tag(p: Pushing, recorded: Recorded) -> None:
    """A pushed manifest causes one event for each tag.

    A push by digest without tags causes one event that has no tag.
    """
    p.manifest(_MADE.manifest, _MADE.media_type, "v2")
    p.manifest(_MADE.manifest, _MADE.media_type, _MADE.digest)
    p.manifest(_MADE.manifest, _MADE.media_type, f"{_MADE.digest}?tag=a&tag=b")

    assert recorded.take() == [
        ("push", _manifest(tag="v2")),
        ("push", _manifest()),
        ("push", _manifest(tag="a")),
        ("push", _manifest(tag="b")),
    ]


def test_references_are_sent_if_they_are_configured(tmp_path: Path, recorded: Recorded) -> None:
    """With `includereferences`, the event of a pushed manifest lists its config and layers."""
    found = pushing(tmp_path, events=Notifier(recorded, has_references=True))
    found.image(_MADE)
    (_, target) = recorded.take()[-1]

    assert [each["digest"] for each in target["references"]] == [
        str(Digest.of(each)) for each in _MADE.blobs
    ]


def test_a_deleted_manifest_is_an_event_and_one_for_each_tag(
    p: Pushing, recorded: Recorded
) -> None:
    """DELETE by digest causes an event for the manifest, then an event for each removed tag."""
    p.manifest(_MADE.manifest, _MADE.media_type, "v2")
    recorded.take()
    p.ask("DELETE", f"manifests/{_MADE.digest}")

    assert recorded.take() == [
        ("delete", {"digest": str(_MADE.digest), "repository": NAME}),
        ("delete", {"repository": NAME, "tag": "v1"}),
        ("delete", {"repository": NAME, "tag": "v2"}),
    ]


def test_a_deleted_tag_or_blob_is_one_event(p: Pushing, recorded: Recorded) -> None:
    """DELETE of a tag or blob causes one event; a DELETE that gets 404 causes none."""
    p.ask("DELETE", "manifests/v1")
    p.ask("DELETE", "manifests/v1")
    p.ask("DELETE", f"blobs/{_LAYER}")
    p.ask("DELETE", f"blobs/{_LAYER}")

    assert recorded.take() == [
        ("delete", {"repository": NAME, "tag": "v1"}),
        ("delete", {"repository": NAME, "digest": str(_LAYER)}),
    ]


def test_an_event_has_the_request_as_haproxy_received_it(p: Pushing, recorded: Recorded) -> None:
    """An event has the request's ID and the client's address and port from HAProxy's header.

    The other fields come from the request itself.
    """
    p.ask(
        "DELETE",
        "manifests/v1",
        X_Entrepot_Request="an-id 4711 2001:db8::1",
        Host="r:5000",
        User_Agent="crane/1",
    )
    found = recorded.events[0]

    assert found["request"] == {
        "id": "an-id",
        "addr": "[2001:db8::1]:4711",
        "host": "r:5000",
        "method": "DELETE",
        "useragent": "crane/1",
    }
    assert found["actor"] == {}


@pytest.mark.slow
def test_a_worker_without_endpoints_loads_nothing_for_them() -> None:
    """If no notification endpoint is configured, a worker imports no module of `notifications`."""
    loaded = worker_modules()

    assert "entrepot.registry.app" in loaded
    assert [each for each in loaded if each.startswith("entrepot.notifications")] == []
