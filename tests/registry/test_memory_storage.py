"""The registry and the cleaner work with `MemoryStorage`, a storage driver without files.

Each test runs with each index driver. The index stores the times that would be file times on a
disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.table import INDEXES
from entrepot.datastore.index import REBUILT, Index
from entrepot.datastore.rebuild import rebuild
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import as_timed, descriptor_of, time_of
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import OpenAuthenticator
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from tests.clock import Clock
from tests.images import filler, image
from tests.upstream import FakeUpstream

LAYERS = [filler(300_000, 1), filler(70_000, 2)]
HOST = "one.test"
NAME = f"{HOST}/app"


class Recorded:
    """A log barrier for the cleaner, which reports that every access is recorded."""

    blind = 0.0

    def fetch(self) -> str:
        """Return an empty string: the index has every access."""
        return ""


@dataclass
class InMemory:
    """A registry whose content is in memory; only its spool files and locks are on a disk."""

    storage: MemoryStorage
    index: Index
    state: Path
    client: TestClient
    clock: Clock

    def get(self, path: str, **headers: str) -> Result:
        """Send a GET for a path below /v2/ to the registry."""
        result: Result = self.client.simulate_get(f"/v2/{path}", headers=headers)
        return result

    def blobs(self) -> set[str]:
        """Return the keys of the blobs in memory."""
        stored = self.storage.walk(layout.BLOBS)
        return {each.key for each in stored}

    def evict(self, limit: int) -> None:
        """Move the clock forward by 60 s and evict content until at most *limit* bytes remain."""
        clock = self.clock
        clock.now += 60.0
        data = DataDirectory(self.storage, self.index, self.state / layout.SPOOL)
        tools = RoundTools(
            store=data,
            spool=Spool(data, clock),
            sweep=Sweep(data, lambda _: None, clock),
            barrier=Recorded(),
            clock=clock,
            stopped=lambda: False,
        )
        assert Rounds(tools, StoreLimits(0, limit, limit, limit)).run(0)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream with one image."""
    with FakeUpstream() as fake:
        fake.put_image("app", "v1", image(LAYERS))
        yield fake


@pytest.fixture
def clock() -> Clock:
    """Return the clock that all parts of the registry use."""
    return Clock(time.time())


@pytest.fixture(params=["memory", *INDEXES])
def index(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Index]:
    """Return an empty index of the driver that the test uses."""
    opened = _new_index(request.param, tmp_path, clock)
    yield opened
    opened.close()


@pytest.fixture
def memory(upstream: FakeUpstream, index: Index, tmp_path: Path, clock: Clock) -> InMemory:
    """Return a registry with its content in memory, in front of the test's upstream."""
    return _assembled(upstream, MemoryStorage(), index, tmp_path / "state", clock)


def _new_index(driver: str, folder: Path, clock: Clock) -> Index:
    if driver == "memory":
        return MemoryIndex(clock=clock)
    opened = INDEXES[driver](folder, clock)
    opened.notes.put({REBUILT: "0"})
    return opened


def _assembled(
    upstream: FakeUpstream,
    storage: MemoryStorage,
    index: Index,
    state: Path,
    clock: Clock,
    **fields: Any,
) -> InMemory:
    """Return a registry in front of *upstream*; *fields* are other settings of the upstream."""
    config = replace(UpstreamConfig(HOST, upstream.url, read_timeout=20.0), **fields)
    parts = Parts(
        storage,
        index,
        state,
        UpstreamTable(FixedUpstreams({HOST: config})),
        OpenAuthenticator(),
        Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        delete_enabled=True,
        clock=clock,
    )
    return InMemory(storage, index, state, TestClient(assemble(parts)), clock)


def _pull(memory: InMemory) -> list[bytes]:
    manifest = memory.get(f"{NAME}/manifests/v1")
    assert manifest.status_code == 200
    named = [manifest.json["config"], *manifest.json["layers"]]
    blobs = [memory.get(f"{NAME}/blobs/{each['digest']}") for each in named]
    assert [each.status_code for each in blobs] == [200, 200, 200]
    return [each.content for each in blobs]


def test_the_driver_offers_no_descriptor_and_no_times(memory: InMemory) -> None:
    """The storage in memory has neither file descriptors nor file times.

    So the tests of this module show that the registry does not depend on them.
    """
    memory.storage.write("some/key", b"content")
    opened = memory.storage.open("some/key")
    stat = memory.storage.stat("some/key")

    assert isinstance(opened, BytesIO)
    assert descriptor_of(opened) is None
    assert as_timed(memory.storage) is None
    assert stat is not None
    assert time_of(stat) is None


def test_a_cold_and_a_warm_pull(memory: InMemory, upstream: FakeUpstream) -> None:
    """After a first pull, a second pull causes no request to the upstream."""
    assert _pull(memory)[1:] == LAYERS
    asked = len(upstream.requests)

    assert _pull(memory)[1:] == LAYERS
    assert len(upstream.requests) == asked


def test_ranges_of_a_stored_blob(memory: InMemory) -> None:
    """A client can request one range or several ranges of a blob; a range past its end gets 416."""
    _pull(memory)
    path, content = f"{NAME}/blobs/{Digest.of(LAYERS[0])}", LAYERS[0]

    part = memory.get(path, Range="bytes=100-200099")
    several = memory.get(path, Range="bytes=0-9,290000-299999")

    assert (part.status_code, part.content) == (206, content[100:200_100])
    assert several.status_code == 206
    assert content[290_000:] in several.content
    assert memory.get(path, Range="bytes=300000-").status_code == 416


def test_a_push_in_two_chunks(memory: InMemory) -> None:
    """A client can push a blob in two chunks, and then a manifest that refers to the blob."""
    made = image([filler(5_000, 3)])
    for content in made.blobs:
        begun = memory.client.simulate_post("/v2/team/app/blobs/uploads/")
        sent = memory.client.simulate_patch(begun.headers["location"], body=content[:1_000])
        end = f"{sent.headers['location'].partition('?')[0]}?digest={Digest.of(content)}"
        ended = memory.client.simulate_put(end, body=content[1_000:])
        assert (begun.status_code, sent.status_code, ended.status_code) == (202, 202, 201)
    put = memory.client.simulate_put(
        "/v2/team/app/manifests/v1",
        body=made.manifest,
        headers={"Content-Type": made.media_type},
    )

    assert put.status_code == 201
    assert memory.get("team/app/manifests/v1").content == made.manifest
    assert memory.get(f"team/app/blobs/{Digest.of(made.layers[0])}").content == made.layers[0]


def test_an_eviction(memory: InMemory, upstream: FakeUpstream) -> None:
    """If the cleaner has evicted a blob, the next pull fetches it from the upstream again."""
    _pull(memory)
    stored = memory.blobs()
    memory.evict(1)

    assert len(stored) == 4
    assert memory.blobs() == set()
    assert _pull(memory)[1:] == LAYERS
    assert upstream.count("GET", str(Digest.of(LAYERS[0]))) == 2


# ---- freshness


def test_a_tag_is_confirmed_by_one_head_when_it_is_no_longer_fresh(
    memory: InMemory, upstream: FakeUpstream
) -> None:
    """If a tag is no longer fresh, one HEAD to the upstream confirms the tag for the next pulls."""
    _pull(memory)
    upstream.forget()
    memory.clock.now += 61.0

    first, second = (memory.get(f"{NAME}/manifests/v1") for _ in range(2))

    assert [each.method for each in upstream.requests] == ["HEAD"]
    assert "fwd=stale" in first.headers["cache-status"]
    assert second.headers["cache-status"] == "entrepot; hit"
    assert second.headers["age"] == "0"


def test_a_moved_tag_serves_the_new_manifest(memory: InMemory, upstream: FakeUpstream) -> None:
    """If a tag has moved at the upstream, the registry fetches and serves the new manifest.

    The confirmation of the old manifest must not make the new manifest appear stored and fresh.
    """
    _pull(memory)
    upstream.put_image("app", "v1", image([filler(6_000, 9)]))
    memory.clock.now += 61.0
    moved = memory.get(f"{NAME}/manifests/v1")
    upstream.forget()

    assert memory.get(f"{NAME}/manifests/v1").content == moved.content
    assert moved.json["layers"][0]["size"] == 6_000
    assert upstream.requests == []


def test_another_worker_sees_a_confirmation(memory: InMemory, upstream: FakeUpstream) -> None:
    """If one worker has confirmed a tag at the upstream, another worker sends no request for it.

    The two workers share only the storage and the index.
    """
    other = _assembled(upstream, memory.storage, memory.index, memory.state, memory.clock)
    _pull(memory)
    _pull(other)
    memory.clock.now += 61.0
    memory.get(f"{NAME}/manifests/v1")
    upstream.forget()

    assert other.get(f"{NAME}/manifests/v1").headers["cache-status"] == "entrepot; hit"
    assert upstream.requests == []


def _with_new_index(memory: InMemory, upstream: FakeUpstream, **fields: Any) -> InMemory:
    """Return the registry with a new index, which was rebuilt from the storage."""
    index = MemoryIndex(clock=memory.clock)
    rebuild(memory.storage, index, memory.clock())
    return _assembled(upstream, memory.storage, index, memory.state, memory.clock, **fields)


@pytest.mark.parametrize("freshness", [60.0, inf])
def test_after_the_loss_of_the_index_a_tag_must_be_confirmed(
    memory: InMemory, upstream: FakeUpstream, freshness: float
) -> None:
    """After the index is rebuilt, a HEAD to the upstream confirms each tag before it is served.

    The time of the last confirmation was lost with the old index.
    """
    _pull(memory)
    upstream.forget()
    rebuilt = _with_new_index(memory, upstream, freshness=freshness)

    for _ in range(2):
        assert rebuilt.get(f"{NAME}/manifests/v1").status_code == 200

    assert [each.method for each in upstream.requests] == ["HEAD"]


def test_an_unconfirmed_tag_is_served_stale_without_an_age(
    memory: InMemory, upstream: FakeUpstream
) -> None:
    """During an outage, a stale tag whose last confirmation is unknown is served without an Age.

    If `maxstale` is set, such a tag is not served stale, because its age may exceed the limit.
    """
    _pull(memory)
    limited = _with_new_index(memory, upstream, max_stale=1e9)
    unlimited = _with_new_index(memory, upstream)
    upstream.stop()

    stale = unlimited.get(f"{NAME}/manifests/v1")

    assert stale.status_code == 200
    assert "served stale" in stale.headers["warning"]
    assert "age" not in stale.headers
    assert limited.get(f"{NAME}/manifests/v1").status_code == 502


def test_after_the_loss_of_the_index_content_counts_as_used_now(
    memory: InMemory, upstream: FakeUpstream
) -> None:
    """In a rebuilt index, the last use of all content is the time of the rebuild.

    So no content expires immediately after the rebuild.
    """
    _pull(memory)
    memory.clock.now += 1000.0
    rebuilt = _with_new_index(memory, upstream)

    rows = rebuilt.index.oldest(None, 10)
    assert [row.used for row in rows] == [memory.clock.now] * 4
