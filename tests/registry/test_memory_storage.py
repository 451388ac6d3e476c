"""The registry and the cleaner over a storage driver that has no files, in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from falcon.testing import Result, TestClient

from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import TimedStorage, descriptor_of
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
    """The log barrier of a process without a log: every access is recorded."""

    blind = 0.0

    def fetch(self) -> str:
        """Return that no access record is missing."""
        return ""


@dataclass
class InMemory:
    """This registry keeps content in memory; only its spool and its locks are files."""

    storage: MemoryStorage
    index: MemoryIndex
    state: Path
    client: TestClient

    def get(self, path: str, **headers: str) -> Result:
        """GET below /v2/."""
        result: Result = self.client.simulate_get(f"/v2/{path}", headers=headers)
        return result

    def blobs(self) -> set[str]:
        """Return the keys of the stored blobs."""
        stored = self.storage.walk(layout.BLOBS)
        return {each.key for each in stored}

    def evict(self, limit: int) -> None:
        """Run a round of the cleaner that keeps *limit* bytes."""
        clock = Clock(time.time() + 60.0)
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
def memory(upstream: FakeUpstream, tmp_path: Path) -> InMemory:
    """Assemble a registry over memory in front of the upstream."""
    storage, index, state = MemoryStorage(), MemoryIndex(), tmp_path / "state"
    table = UpstreamTable(
        FixedUpstreams({HOST: UpstreamConfig(HOST, upstream.url, read_timeout=2.0)})
    )
    reservations = Reservations(index.reservations, SpaceLimits(), notes=index.notes)
    parts = Parts(
        storage, index, state, table, OpenAuthenticator(), reservations, delete_enabled=True
    )
    return InMemory(storage, index, state, TestClient(assemble(parts)))


def _pull(memory: InMemory) -> list[bytes]:
    manifest = memory.get(f"{NAME}/manifests/v1")
    assert manifest.status_code == 200
    named = [manifest.json["config"], *manifest.json["layers"]]
    blobs = [memory.get(f"{NAME}/blobs/{each['digest']}") for each in named]
    assert [each.status_code for each in blobs] == [200, 200, 200]
    return [each.content for each in blobs]


def test_the_driver_offers_no_descriptor_and_no_times(memory: InMemory) -> None:
    """The memory driver offers no file descriptor, so these tests show that none is needed."""
    memory.storage.write("some/key", b"content")
    opened = memory.storage.open("some/key")

    assert isinstance(opened, BytesIO)
    assert descriptor_of(opened) is None
    assert not isinstance(memory.storage, TimedStorage)


def test_a_cold_and_a_warm_pull(memory: InMemory, upstream: FakeUpstream) -> None:
    """After a cold pull, a warm pull sends no request to the upstream."""
    assert _pull(memory)[1:] == LAYERS
    asked = len(upstream.requests)

    assert _pull(memory)[1:] == LAYERS
    assert len(upstream.requests) == asked


def test_ranges_of_a_stored_blob(memory: InMemory) -> None:
    """Requests for one range, several ranges and an unsatisfiable range of a blob work."""
    _pull(memory)
    path, content = f"{NAME}/blobs/{Digest.of(LAYERS[0])}", LAYERS[0]

    part = memory.get(path, Range="bytes=100-200099")
    several = memory.get(path, Range="bytes=0-9,290000-299999")

    assert (part.status_code, part.content) == (206, content[100:200_100])
    assert several.status_code == 206
    assert content[290_000:] in several.content
    assert memory.get(path, Range="bytes=300000-").status_code == 416


def test_a_push_in_two_chunks(memory: InMemory) -> None:
    """A client pushes a blob in two chunks, and a manifest that names the blob."""
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
    """Evicted content is fetched again."""
    _pull(memory)
    stored = memory.blobs()
    memory.evict(1)

    assert len(stored) == 4
    assert memory.blobs() == set()
    assert _pull(memory)[1:] == LAYERS
    assert upstream.count("GET", str(Digest.of(LAYERS[0]))) == 2
