"""The application permits its server to repeat the response with a manifest for a second."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.server.delivery import CONNECTION, LentConnection, RepeatableBytes
from tests import images
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

_CLOCK = "entrepot.registry.api.manifests.monotonic"
_STOPPED = 1000.0


class Worker:
    """A registry without HAProxy's content cache; the test can change its cache epoch."""

    def __init__(self, u: FakeUpstream, root: Path, *, has_cache: bool = False) -> None:
        self.now = "0000000001"
        self.pulling: Pulling = pulling(u, root, epoch=lambda: self.now, has_edge_cache=has_cache)

    def permission(
        self, name: str = "", *, method: str = "GET", is_frequent: bool = True
    ) -> RepeatableBytes | None:
        """Request the tag v1; return the permission to repeat the response, or None."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            lent = LentConnection(ours, is_frequent=lambda: is_frequent)
            path = f"/v2/{name or f'{self.pulling.prefix}/{NAME}'}/manifests/v1"
            got = self.pulling.client.simulate_request(method, path, extras={CONNECTION: lent})
            assert got.status_code == 200
        assert lent.repeatable is None or isinstance(lent.repeatable, RepeatableBytes)
        return lent.repeatable


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream with an image."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", [images.filler(1000, 1)])
        yield upstream


@pytest.fixture
def worker(u: FakeUpstream, tmp_path: Path) -> Worker:
    """Return a registry that has the whole image."""
    made = Worker(u, tmp_path)
    made.pulling.pull()
    return made


def test_the_response_to_a_frequent_request_may_be_repeated(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permission to repeat a response contains the manifest and expires within a second."""
    permitted = worker.permission()

    assert permitted is not None
    assert permitted.content == worker.pulling.get("manifests/v1").content
    assert _is_permitted_after(0.0, permitted, monkeypatch)
    assert not _is_permitted_after(1.0, permitted, monkeypatch)


def _is_permitted_after(
    seconds: float, permitted: RepeatableBytes, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Return True if the permission is still valid *seconds* after it was granted."""
    monkeypatch.setattr(_CLOCK, lambda: _STOPPED + seconds)
    return permitted.is_permitted()


@pytest.fixture(autouse=True)
def stopped_clock(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the image was pulled, stop the clock that determines when a permission expires."""
    del worker
    monkeypatch.setattr(_CLOCK, lambda: _STOPPED)


def test_a_new_epoch_ends_the_permission(worker: Worker) -> None:
    """If the cache epoch rises, the permission to repeat a response ends at once."""
    permitted = worker.permission()
    assert permitted is not None
    worker.now = "0000000002"

    assert not permitted.is_permitted()


def test_other_responses_with_manifests_are_not_repeated(worker: Worker) -> None:
    """The response to a HEAD, or to a request that is not frequent, must not be repeated."""
    assert worker.permission(method="HEAD") is None
    assert worker.permission(is_frequent=False) is None


def test_a_pushed_manifest_is_not_repeated(worker: Worker) -> None:
    """A response with a pushed manifest must not be repeated: a client can delete the manifest."""
    client, pushed = worker.pulling.client, images.image([])
    blob = f"/v2/team/app/blobs/uploads/?digest={Digest.of(pushed.config)}"
    client.simulate_post(blob, body=pushed.config)
    response = client.simulate_put("/v2/team/app/manifests/v1", body=pushed.manifest)
    assert response.status_code == 201

    assert worker.permission("team/app") is None


def test_an_incomplete_manifest_is_not_repeated(u: FakeUpstream, tmp_path: Path) -> None:
    """If a part of a manifest is missing, a response with the manifest must not be repeated.

    Such a manifest is served only while its upstream is up.
    """
    worker = Worker(u, tmp_path / "other")
    worker.pulling.get("manifests/v1")

    assert worker.permission() is None


def test_nothing_is_repeated_where_haproxy_caches(u: FakeUpstream, tmp_path: Path) -> None:
    """If HAProxy caches responses, workers repeat no manifests, because HAProxy serves them."""
    worker = Worker(u, tmp_path / "other", has_cache=True)
    worker.pulling.pull()

    assert worker.permission() is None
